<?php
// A worker on the real SDK, in the folder that CENTRIPETA_TEST_PHP_SDK names: what it answers shows what
// the SDK made of the event, and its RPC methods call back into the host in the SDK's ways.

declare(strict_types=1);

use RoadRunner\Centrifugo\CentrifugoWorker;
use RoadRunner\Centrifugo\Payload;
use RoadRunner\Centrifugo\Request;
use RoadRunner\Centrifugo\RPCCentrifugoApi;
use RoadRunner\Centrifugo\Service\DTO;
use Spiral\Goridge\RPC\Codec\JsonCodec;
use Spiral\Goridge\RPC\Codec\ProtobufCodec;
use Spiral\Goridge\RPC\MultiRPC;
use Spiral\Goridge\RPC\RPC;
use Spiral\RoadRunner\Environment;
use Spiral\RoadRunner\Worker;

require getenv('CENTRIPETA_TEST_PHP_SDK') . '/autoload.php';

$worker = Worker::create();
$host = Environment::fromGlobals()->getRPCAddress();
$rpc = RPC::create($host);
$api = new RPCCentrifugoApi($rpc);
$source = new CentrifugoWorker($worker, new Request\RequestFactory($worker));

// Many calls at once over a relay each, answered in any order.
$many = static function (int $count) use ($host): array {
    $calls = MultiRPC::create($host, 50, codec: new ProtobufCodec());
    $calls->preConnectRelays();
    $asked = [];
    for ($number = 0; $number < $count; $number++) {
        $request = new DTO\PublishRequest(['channel' => 'many', 'data' => json_encode(['n' => $number])]);
        $asked[] = $calls->callAsync('centrifuge.Publish', $request);
    }
    $failed = 0;
    foreach ($calls->getResponses($asked, DTO\PublishResponse::class) as $response) {
        $failed += $response->getError() === null ? 0 : 1;
    }
    return ['asked' => count($asked), 'failed' => $failed];
};

while (($request = $source->waitRequest()) !== null) {
    $class = (new ReflectionClass($request))->getShortName();
    match (true) {
        $request instanceof Request\Connect => $request->respond(new Payload\ConnectResponse(
            user: 'u1',
            expireAt: 4_000_000_000,
            data: ['saw' => $request->getData(), 'name' => $request->name, 'headers' => array_keys($request->headers)],
            info: ['seat' => 7],
            channels: ['news'],
            meta: ['m' => 1],
            subscriptions: ['side' => new Payload\SubscribeOption(data: ['s' => 1])],
        )),
        $request instanceof Request\Refresh => $request->respond(
            new Payload\RefreshResponse(expireAt: 4_000_000_001, info: ['saw' => $request->meta])
        ),
        $request instanceof Request\Subscribe => $request->channel === 'closed'
            ? $request->error(403, 'closed', false)
            : $request->respond(new Payload\SubscribeResponse(
                info: ['by' => $request->user],
                data: ['saw' => $request->getData()],
                override: new Payload\Override(presence: true),
            )),
        $request instanceof Request\Publish => $request->respond(
            new Payload\PublishResponse(data: ['saw' => $request->getData(), 'in' => $request->channel], skipHistory: true)
        ),
        $request instanceof Request\RPC && $request->method === 'publish' => (static function () use ($request, $api) {
            $api->publish('news', '{"by":"php"}', false, ['tag' => 'x']);
            $api->broadcast(['news', 'side'], '{"by":"broadcast"}');
            $request->respond(new Payload\RPCResponse(['stats' => $api->presenceStats('news')]));
        })(),
        $request instanceof Request\RPC && $request->method === 'version' => $request->respond(
            new Payload\RPCResponse([$rpc->withCodec(new JsonCodec())->call('rpc.Version', true)])
        ),
        $request instanceof Request\RPC && $request->method === 'many' => $request->respond(
            new Payload\RPCResponse($many(500))
        ),
        $request instanceof Request\RPC && $request->method === 'leave' => $request->disconnect(4501, 'go'),
        $request instanceof Request\RPC => $request->respond(new Payload\RPCResponse($request->getData())),
        // Those of newer SDKs.
        $class === 'SubRefresh' => $request->respond(new Payload\SubRefreshResponse(expireAt: 4_000_000_002)),
        default => $request->error(404, $class),
    };
}
