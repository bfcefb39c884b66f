<?php
// Which service answers which event, and what stands in front of them; '*' is outermost.

declare(strict_types=1);

use App\Interceptors;
use App\Services;

return [
    'services' => [
        'connect' => Services\ConnectService::class,
        'refresh' => Services\RefreshService::class,
        'subscribe' => Services\SubscribeService::class,
        'publish' => Services\PublishService::class,
        'rpc' => Services\RpcService::class,
    ],
    'interceptors' => [
        '*' => [Interceptors\LogInterceptor::class],
        'subscribe' => [Interceptors\AuthInterceptor::class],
        'publish' => [Interceptors\AuthInterceptor::class],
        'rpc' => [Interceptors\AuthInterceptor::class],
    ],
];
