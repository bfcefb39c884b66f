<?php

declare(strict_types=1);

namespace App;

use RoadRunner\Centrifugo\Request\RequestInterface;

interface InterceptorInterface
{
    /**
     * Goes on with `$next($request)`, or answers by itself.
     *
     * @param callable(RequestInterface): void $next
     */
    public function process(RequestInterface $request, callable $next): void;
}
