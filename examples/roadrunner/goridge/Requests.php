<?php
// The events, and where they come from.

declare(strict_types=1);

namespace RoadRunner\Centrifugo\Request;

use RoadRunner\Centrifugo\Payload\ResponseInterface;
use Spiral\Goridge\Message;
use Spiral\RoadRunner\Worker;

interface RequestInterface
{
    public function getData(): array;

    public function getAttribute(string $name, mixed $default = null): mixed;

    public function withAttribute(string $name, mixed $value): self;

    public function respond(ResponseInterface $response): void;

    public function error(int $code, string $message, bool $temporary = false): void;

    public function disconnect(int $code, string $reason): void;
}

abstract class AbstractRequest implements RequestInterface
{
    private array $attributes = [];

    public function __construct(
        private readonly Worker $worker,
        public readonly array $headers,
        public readonly string $client,
        private readonly array $data,
        public readonly string $user,
        public readonly string $channel,
        public readonly string $method,
        public readonly array $meta,
    ) {
    }

    public function getData(): array
    {
        return $this->data;
    }

    public function getAttribute(string $name, mixed $default = null): mixed
    {
        return $this->attributes[$name] ?? $default;
    }

    public function withAttribute(string $name, mixed $value): self
    {
        $other = clone $this;
        $other->attributes[$name] = $value;
        return $other;
    }

    public function respond(ResponseInterface $response): void
    {
        $this->worker->respond(Message::message(1, $response->result()));
    }

    public function error(int $code, string $message, bool $temporary = false): void
    {
        $error = Message::number(1, $code) . Message::bytes(2, $message) . Message::number(3, (int) $temporary);
        $this->worker->respond(Message::message(2, $error));
    }

    public function disconnect(int $code, string $reason): void
    {
        $this->worker->respond(Message::message(3, Message::number(1, $code) . Message::bytes(2, $reason)));
    }
}

final class Connect extends AbstractRequest
{
}

final class Refresh extends AbstractRequest
{
}

final class Subscribe extends AbstractRequest
{
}

final class Publish extends AbstractRequest
{
}

final class RPC extends AbstractRequest
{
}

final class RequestFactory
{
    // The class of each event, and the numbers of its fields.
    private const EVENTS = [
        'connect' => [Connect::class, ['data' => 10]],
        'refresh' => [Refresh::class, ['user' => 10, 'meta' => 11]],
        'subscribe' => [Subscribe::class, ['user' => 10, 'channel' => 11, 'meta' => 13, 'data' => 14]],
        'publish' => [Publish::class, ['user' => 10, 'channel' => 11, 'data' => 12, 'meta' => 14]],
        'rpc' => [RPC::class, ['user' => 10, 'method' => 11, 'data' => 12, 'meta' => 14]],
    ];

    public function __construct(private readonly Worker $worker)
    {
    }

    public function create(string $context, string $body): RequestInterface
    {
        $headers = json_decode($context, true, flags: JSON_THROW_ON_ERROR);
        $type = $headers['type'][0] ?? '';
        [$class, $numbers] = self::EVENTS[$type] ?? throw new \UnexpectedValueException("no event $type");
        $fields = Message::fields($body);
        $text = static fn (string $name): string => (string) ($fields[$numbers[$name] ?? 0] ?? '');
        $json = static fn (string $name): array => match ($value = $text($name)) {
            '' => [],
            default => (array) json_decode($value, true, flags: JSON_THROW_ON_ERROR),
        };
        return new $class(
            $this->worker,
            $headers,
            client: (string) ($fields[1] ?? ''),
            data: $json('data'),
            user: $text('user'),
            channel: $text('channel'),
            method: $text('method'),
            meta: $json('meta'),
        );
    }
}
