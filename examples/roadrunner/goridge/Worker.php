<?php
// The worker's side of the line: one request at a time, and the host's own words in between.

declare(strict_types=1);

namespace Spiral\RoadRunner;

use Spiral\Goridge\Line;

final class Environment
{
    public static function fromGlobals(): self
    {
        return new self();
    }

    public function getMode(): string
    {
        return getenv('RR_MODE') ?: '';
    }

    public function getRelayAddress(): string
    {
        return getenv('RR_RELAY') ?: 'pipes';
    }

    public function getRPCAddress(): string
    {
        return getenv('RR_RPC') ?: 'tcp://127.0.0.1:6001';
    }
}

final class Worker
{
    private function __construct(private readonly Line $line)
    {
    }

    public static function create(): self
    {
        $relay = Environment::fromGlobals()->getRelayAddress();
        if ($relay !== 'pipes') {
            return new self(Line::to($relay));
        }
        // Standard output belongs to the protocol: what the application prints goes to the log.
        ob_start(static function (string $said): string {
            fwrite(STDERR, $said);
            return '';
        }, 1);
        return new self(new Line(STDIN, STDOUT));
    }

    /**
     * The next request's context and body; null once the host says stop.
     *
     * @return array{string, string}|null
     */
    public function waitPayload(): ?array
    {
        while (true) {
            [$flags, $options, $payload] = $this->line->receive();
            if ($flags & Line::CONTROL) {
                if (!empty(json_decode($payload, true)['stop'])) {
                    return null;
                }
                $this->line->send(Line::CONTROL, json_encode(['pid' => getmypid()]));
                continue;
            }
            return [substr($payload, 0, $options[0]), substr($payload, $options[0])];
        }
    }

    public function respond(string $body): void
    {
        $this->line->send(0, $body, 0);
    }
}
