<?php
// A worker of the goridge protocol in plain PHP, for tests: the same directives as the stand-in's, as
// far as the tests of the node need them. It uses no library.

const CONTROL = 0x01;
const ERROR = 0x40;

function take(int $count): string
{
    $data = '';
    while (strlen($data) < $count) {
        $more = fread(STDIN, $count - strlen($data));
        if ($more === '' || $more === false) {
            exit(255);
        }
        $data .= $more;
    }
    return $data;
}

function frame(int $flags, string $payload, array $options = []): string
{
    $head = chr(0x10 | (3 + count($options))) . chr($flags) . pack('V', strlen($payload));
    $tail = pack('V', crc32($head)) . "\0\0";
    return $head . $tail . implode('', array_map(fn ($it) => pack('V', $it), $options)) . $payload;
}

function put(string $bytes): void
{
    while ($bytes !== '') {
        $bytes = substr($bytes, fwrite(STDOUT, $bytes));
    }
    fflush(STDOUT);
}

function answer(string $body): void
{
    put(frame(0, $body, [0]));
}

function field(int $number, string $value): string
{
    $size = strlen($value);
    $length = '';
    while ($size > 127) {
        $length .= chr($size & 127 | 128);
        $size >>= 7;
    }
    return chr($number << 3 | 2) . $length . chr($size) . $value;
}

function rpc(string $data): void
{
    answer(field(1, field(1, $data)));
}

while (true) {
    $head = take(12);
    if (crc32(substr($head, 0, 6)) !== unpack('V', substr($head, 6, 4))[1]) {
        fwrite(STDERR, "a bad checksum from the host\n");
        exit(1);
    }
    $words = (ord($head[0]) & 15) - 3;
    $options = $words > 0 ? array_values(unpack('V*', take(4 * $words))) : [];
    $size = unpack('V', substr($head, 2, 4))[1];
    $payload = $size > 0 ? take($size) : '';
    if (ord($head[1]) & CONTROL) {
        $control = json_decode($payload, true);
        if (!empty($control['stop'])) {
            exit(0);
        }
        put(frame(CONTROL, json_encode(['pid' => getmypid()])));
        continue;
    }
    $context = substr($payload, 0, $options[0]);
    $body = substr($payload, $options[0]);
    preg_match('~do:([a-z0-9-]+)(?::([0-9A-Za-z_./-]+))?~', $body, $found);
    $argument = $found[2] ?? '';
    switch ($found[1] ?? '') {
        case 'hex':
            answer(hex2bin($argument));
            break;
        case 'sleep-hex':
            [$pause, $rest] = explode('.', $argument);
            usleep((int) $pause * 1000);
            answer(hex2bin($rest));
            break;
        case 'rpc-context':
            rpc($context);
            break;
        case 'rpc-body':
            rpc($body);
            break;
        case 'rpc-env':
            rpc(json_encode(getenv()));
            break;
        case 'rpc-pid':
            rpc((string) getmypid());
            break;
        case 'soft':
            put(frame(ERROR, 'soft boom'));
            break;
        case 'drop':
            break;
        case 'empty':
            answer('');
            break;
        case 'exit':
            fwrite(STDERR, "leaving\n");
            exit((int) $argument);
        default:
            put(frame(ERROR, 'unknown directive'));
    }
}
