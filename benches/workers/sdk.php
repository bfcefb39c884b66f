<?php
// The same by the SDK in the folder that CENTRIPETA_TEST_PHP_SDK names.

declare(strict_types=1);

use RoadRunner\Centrifugo\CentrifugoWorker;
use RoadRunner\Centrifugo\Payload\RPCResponse;
use RoadRunner\Centrifugo\Request\RequestFactory;
use Spiral\RoadRunner\Worker;

require getenv('CENTRIPETA_TEST_PHP_SDK') . '/autoload.php';

$worker = Worker::create();
$source = new CentrifugoWorker($worker, new RequestFactory($worker));
while (($request = $source->waitRequest()) !== null) {
    $request->respond(new RPCResponse($request->getData()));
}
