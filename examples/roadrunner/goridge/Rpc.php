<?php
// Calls from the application into the host.

declare(strict_types=1);

namespace Spiral\Goridge\RPC;

use Spiral\Goridge\Line;

final class RPC
{
    private ?Line $line = null;
    private int $sequence = 0;

    private function __construct(private readonly string $address)
    {
    }

    /** Connects at the first call. */
    public static function create(string $address): self
    {
        return new self($address);
    }

    /** A call with protobuf both ways. */
    public function call(string $method, string $message): string
    {
        $this->line ??= Line::to($this->address);
        $this->line->send(Line::PROTO, $method . $message, ++$this->sequence, strlen($method));
        [$flags, $options, $payload] = $this->line->receive();
        if (($options[0] ?? null) !== $this->sequence) {
            throw new \RuntimeException('an answer to another call');
        }
        $body = substr($payload, $options[1]);
        if ($flags & Line::ERROR) {
            throw new \RuntimeException($body);
        }
        return $body;
    }
}
