<?php

declare(strict_types=1);

namespace App\Services;

use App\ServiceInterface;
use App\Users;
use RoadRunner\Centrifugo\Payload\ConnectResponse;
use RoadRunner\Centrifugo\Request\RequestInterface;

final class ConnectService implements ServiceInterface
{
    public function handle(RequestInterface $request): void
    {
        $user = Users::of((string) ($request->getData()['token'] ?? ''));
        if ($user === null) {
            $request->disconnect(4501, 'unknown token');
            return;
        }
        $request->respond(new ConnectResponse(
            user: $user,
            expireAt: Users::expiry(),
            data: ['hello' => $user],
            channels: ["personal:$user"],
            meta: ['role' => 'member'],
        ));
    }
}
