<?php
// Classes of the application, and those of the SDK: the real one where Composer or a variable has put
// it, else the few of its classes that are needed, written for this sample in plain PHP.

declare(strict_types=1);

spl_autoload_register(static function (string $class): void {
    if (str_starts_with($class, 'App\\')) {
        require __DIR__ . '/src/' . strtr(substr($class, 4), '\\', '/') . '.php';
    }
});

$folder = getenv('PHP_SDK');
foreach ([__DIR__ . '/vendor', is_string($folder) && $folder !== '' ? $folder : null] as $place) {
    if ($place !== null && is_file("$place/autoload.php")) {
        require "$place/autoload.php";
        return;
    }
}
require __DIR__ . '/goridge/autoload.php';
