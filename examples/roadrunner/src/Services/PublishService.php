<?php

declare(strict_types=1);

namespace App\Services;

use App\ServiceInterface;
use RoadRunner\Centrifugo\Payload\PublishResponse;
use RoadRunner\Centrifugo\Request\RequestInterface;

/** What is said in a room carries the name of who says it, whatever the client wrote. */
final class PublishService implements ServiceInterface
{
    public function handle(RequestInterface $request): void
    {
        $text = trim((string) ($request->getData()['text'] ?? ''));
        if ($text === '') {
            $request->error(422, 'nothing was said');
            return;
        }
        $request->respond(new PublishResponse(data: ['text' => $text, 'by' => $request->getAttribute('user')]));
    }
}
