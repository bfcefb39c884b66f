<?php

declare(strict_types=1);

namespace App;

use RoadRunner\Centrifugo\CentrifugoApiInterface;
use RoadRunner\Centrifugo\CentrifugoWorker;
use RoadRunner\Centrifugo\Request;

/** Builds services and interceptors once and serves events until the host says stop. */
final class Kernel
{
    private const EVENTS = [
        Request\Connect::class => 'connect',
        Request\Refresh::class => 'refresh',
        Request\Subscribe::class => 'subscribe',
        Request\Publish::class => 'publish',
        Request\RPC::class => 'rpc',
    ];

    /** @var array<string, callable(Request\RequestInterface): void> */
    private array $chains = [];

    public function __construct(array $config, CentrifugoApiInterface $api)
    {
        $build = static fn (string $class): object => new $class($api);
        foreach ($config['services'] as $event => $class) {
            $service = $build($class);
            $chain = $service->handle(...);
            $around = [...$config['interceptors']['*'] ?? [], ...$config['interceptors'][$event] ?? []];
            foreach (array_reverse($around) as $interceptor) {
                $interceptor = $build($interceptor);
                $next = $chain;
                $chain = static fn ($request) => $interceptor->process($request, $next);
            }
            $this->chains[$event] = $chain;
        }
    }

    public function serve(CentrifugoWorker $worker): void
    {
        while (($request = $worker->waitRequest()) !== null) {
            $event = self::EVENTS[$request::class] ?? '';
            $chain = $this->chains[$event] ?? static fn ($request) => $request->error(404, 'no such service');
            try {
                $chain($request);
            } catch (\Throwable $why) {
                fwrite(STDERR, "$event failed: {$why->getMessage()}\n");
                $request->error(500, 'internal error');
            }
        }
    }
}
