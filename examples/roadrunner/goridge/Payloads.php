<?php
// What services answer with.

declare(strict_types=1);

namespace RoadRunner\Centrifugo\Payload;

use Spiral\Goridge\Message;

interface ResponseInterface
{
    /** The event's result as protobuf. */
    public function result(): string;
}

final class ConnectResponse implements ResponseInterface
{
    /** @param list<string> $channels */
    public function __construct(
        public readonly string $user = '',
        public readonly ?int $expireAt = null,
        public readonly array $data = [],
        public readonly array $info = [],
        public readonly array $channels = [],
        public readonly array $meta = [],
    ) {
    }

    public function result(): string
    {
        $channels = array_map(static fn (string $name) => Message::bytes(7, $name), $this->channels);
        return Message::bytes(1, $this->user) . Message::number(2, $this->expireAt ?? 0)
            . Message::json(3, $this->info) . Message::json(5, $this->data)
            . implode('', $channels) . Message::json(9, $this->meta);
    }
}

final class RefreshResponse implements ResponseInterface
{
    public function __construct(
        public readonly bool $expired = false,
        public readonly ?int $expireAt = null,
        public readonly array $info = [],
    ) {
    }

    public function result(): string
    {
        return Message::number(1, (int) $this->expired) . Message::number(2, $this->expireAt ?? 0)
            . Message::json(3, $this->info);
    }
}

final class SubscribeResponse implements ResponseInterface
{
    public function __construct(public readonly array $info = [], public readonly array $data = [])
    {
    }

    public function result(): string
    {
        return Message::json(2, $this->info) . Message::json(4, $this->data);
    }
}

final class PublishResponse implements ResponseInterface
{
    public function __construct(public readonly array $data = [], public readonly bool $skipHistory = false)
    {
    }

    public function result(): string
    {
        return Message::json(1, $this->data) . Message::number(3, (int) $this->skipHistory);
    }
}

final class RPCResponse implements ResponseInterface
{
    public function __construct(public readonly array $data = [])
    {
    }

    public function result(): string
    {
        return Message::json(1, $this->data);
    }
}
