<?php

declare(strict_types=1);

namespace App\Services;

use App\ServiceInterface;
use App\Users;
use RoadRunner\Centrifugo\CentrifugoApiInterface;
use RoadRunner\Centrifugo\Payload\RefreshResponse;
use RoadRunner\Centrifugo\Request\RequestInterface;

final class RefreshService implements ServiceInterface
{
    public function __construct(private readonly CentrifugoApiInterface $api)
    {
    }

    public function handle(RequestInterface $request): void
    {
        $this->api->publish("personal:{$request->user}", json_encode(['session' => 'prolonged']));
        $request->respond(new RefreshResponse(expireAt: Users::expiry()));
    }
}
