<?php
// The few classes of the SDK that the sample needs, in plain PHP and without a library: each file holds
// those of one namespace.

declare(strict_types=1);

foreach (['Line', 'Message', 'Worker', 'Rpc', 'Payloads', 'Requests', 'Api'] as $file) {
    require __DIR__ . "/$file.php";
}
