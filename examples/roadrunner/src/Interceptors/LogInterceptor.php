<?php

declare(strict_types=1);

namespace App\Interceptors;

use App\InterceptorInterface;
use RoadRunner\Centrifugo\Request\RequestInterface;

/** A line on stderr for each event that took long. */
final class LogInterceptor implements InterceptorInterface
{
    private const LONG_MS = 500;

    public function process(RequestInterface $request, callable $next): void
    {
        $began = hrtime(true);
        try {
            $next($request);
        } finally {
            $took = intdiv(hrtime(true) - $began, 1_000_000);
            if ($took >= self::LONG_MS) {
                fwrite(STDERR, $request::class . " took $took ms\n");
            }
        }
    }
}
