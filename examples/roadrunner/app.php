<?php
// One worker of the sample application: RoadRunner and Centripeta start it alike and tell it by RR_MODE
// what it is for.

declare(strict_types=1);

use App\Kernel;
use RoadRunner\Centrifugo\CentrifugoWorker;
use RoadRunner\Centrifugo\Request\RequestFactory;
use RoadRunner\Centrifugo\RPCCentrifugoApi;
use Spiral\Goridge\RPC\RPC;
use Spiral\RoadRunner\Environment;
use Spiral\RoadRunner\Worker;

require __DIR__ . '/bootstrap.php';

$environment = Environment::fromGlobals();
if ($environment->getMode() !== 'centrifuge') {
    fwrite(STDERR, "this application only serves RR_MODE=centrifuge\n");
    exit(1);
}
$worker = Worker::create();
$api = new RPCCentrifugoApi(RPC::create($environment->getRPCAddress()));
$kernel = new Kernel(require __DIR__ . '/config/centrifugo.php', $api);
$kernel->serve(new CentrifugoWorker($worker, new RequestFactory($worker)));
