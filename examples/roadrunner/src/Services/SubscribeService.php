<?php

declare(strict_types=1);

namespace App\Services;

use App\ServiceInterface;
use RoadRunner\Centrifugo\Payload\SubscribeResponse;
use RoadRunner\Centrifugo\Request\RequestInterface;

/** Rooms are for everyone but the one that is closed. */
final class SubscribeService implements ServiceInterface
{
    public function handle(RequestInterface $request): void
    {
        if ($request->channel === 'room:closed') {
            $request->error(403, 'this room is closed');
            return;
        }
        $request->respond(new SubscribeResponse(data: ['topic' => "about {$request->channel}"]));
    }
}
