<?php

declare(strict_types=1);

namespace App\Services;

use App\ServiceInterface;
use RoadRunner\Centrifugo\CentrifugoApiInterface;
use RoadRunner\Centrifugo\Payload\RPCResponse;
use RoadRunner\Centrifugo\Request\RequestInterface;

final class RpcService implements ServiceInterface
{
    public function __construct(private readonly CentrifugoApiInterface $api)
    {
    }

    public function handle(RequestInterface $request): void
    {
        $data = $request->getData();
        $user = (string) $request->getAttribute('user');
        match ($request->method) {
            'echo' => $request->respond(new RPCResponse($data)),
            'announce' => $this->announce($request, (string) $data['room'], (string) $data['text']),
            'order' => $this->order($request, $user, (string) ($data['item'] ?? '')),
            'leave' => $request->disconnect(4502, 'come back tomorrow'),
            'break' => throw new \LogicException('a bug of the application'),
            default => $request->error(404, "no method {$request->method}"),
        };
    }

    /** Says something in a room, by a call back into the host. */
    private function announce(RequestInterface $request, string $room, string $text): void
    {
        $this->api->publish("room:$room", json_encode(['text' => $text, 'by' => 'the house']));
        $request->respond(new RPCResponse(['announced' => $room]));
    }

    private function order(RequestInterface $request, string $user, string $item): void
    {
        if ($item === '') {
            $request->error(409, 'nothing was ordered');
            return;
        }
        $this->api->publish("personal:$user", json_encode(['ordered' => $item]));
        $request->respond(new RPCResponse(['item' => $item, 'for' => $user]));
    }
}
