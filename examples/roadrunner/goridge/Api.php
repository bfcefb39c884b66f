<?php
// The loop's source of events, and Centrifugo's API by way of the host.

declare(strict_types=1);

namespace RoadRunner\Centrifugo;

use RoadRunner\Centrifugo\Request\RequestFactory;
use RoadRunner\Centrifugo\Request\RequestInterface;
use Spiral\Goridge\Message;
use Spiral\Goridge\RPC\RPC;
use Spiral\RoadRunner\Worker;

final class CentrifugoWorker
{
    public function __construct(private readonly Worker $worker, private readonly RequestFactory $factory)
    {
    }

    public function waitRequest(): ?RequestInterface
    {
        $payload = $this->worker->waitPayload();
        return $payload === null ? null : $this->factory->create(...$payload);
    }
}

interface CentrifugoApiInterface
{
    public function publish(string $channel, string $message, bool $skipHistory = true): void;
}

final class RPCCentrifugoApi implements CentrifugoApiInterface
{
    public function __construct(private readonly RPC $rpc)
    {
    }

    public function publish(string $channel, string $message, bool $skipHistory = true): void
    {
        $request = Message::bytes(1, $channel) . Message::bytes(2, $message)
            . Message::number(4, (int) $skipHistory);
        $error = Message::fields($this->rpc->call('centrifuge.Publish', $request))[1] ?? null;
        if ($error !== null) {
            throw new \RuntimeException(Message::fields((string) $error)[2] ?? 'an error');
        }
    }
}
