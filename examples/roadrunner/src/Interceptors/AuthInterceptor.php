<?php

declare(strict_types=1);

namespace App\Interceptors;

use App\InterceptorInterface;
use RoadRunner\Centrifugo\Request\RequestInterface;

/** Lets those through that the connect event has let in; it knows them by the connection's meta. */
final class AuthInterceptor implements InterceptorInterface
{
    public function process(RequestInterface $request, callable $next): void
    {
        if ($request->user === '' || ($request->meta['role'] ?? null) !== 'member') {
            $request->error(401, 'not signed in');
            return;
        }
        $next($request->withAttribute('user', $request->user));
    }
}
