<?php

declare(strict_types=1);

namespace App;

use RoadRunner\Centrifugo\Request\RequestInterface;

interface ServiceInterface
{
    /** Answers the request, exactly once. */
    public function handle(RequestInterface $request): void;
}
