<?php
// A worker of the goridge protocol in plain PHP, for tests: the same directives as the stand-in's, as
// far as pools and nodes are tried with them. It uses no library.

const CONTROL = 0x01;
const ERROR = 0x40;
const MORE = 0x01;
const STOP = 0x02;
const PING = 0x04;
const PONG = 0x08;

$relay = getenv('RR_RELAY') ?: 'pipes';
$in = STDIN;
$out = STDOUT;
if ($relay !== 'pipes') {
    $in = $out = stream_socket_client($relay);
    stream_set_timeout($in, 3600);
}

function take(int $count): string
{
    global $in;
    $data = '';
    while (strlen($data) < $count) {
        $more = fread($in, $count - strlen($data));
        if ($more === '' || $more === false) {
            exit(255);
        }
        $data .= $more;
    }
    return $data;
}

/** A frame from the host: flags, stream byte, options and payload. */
function next_frame(): array
{
    $head = take(12);
    if (crc32(substr($head, 0, 6)) !== unpack('V', substr($head, 6, 4))[1]) {
        fwrite(STDERR, "a bad checksum from the host\n");
        exit(1);
    }
    $words = (ord($head[0]) & 15) - 3;
    $options = $words > 0 ? array_values(unpack('V*', take(4 * $words))) : [];
    $size = unpack('V', substr($head, 2, 4))[1];
    return [ord($head[1]), ord($head[10]), $options, $size > 0 ? take($size) : ''];
}

function frame(int $flags, string $payload, array $options = [], int $stream = 0, ?int $crc = null): string
{
    $head = chr(0x10 | (3 + count($options))) . chr($flags) . pack('V', strlen($payload));
    $tail = pack('V', $crc ?? crc32($head)) . chr($stream) . "\0";
    return $head . $tail . implode('', array_map(fn ($it) => pack('V', $it), $options)) . $payload;
}

function put(string $bytes): void
{
    global $out;
    while ($bytes !== '') {
        $bytes = substr($bytes, fwrite($out, $bytes));
    }
    fflush($out);
}

function answer(string $body, string $context = '', int $stream = 0): void
{
    put(frame(0, $context . $body, [strlen($context)], $stream));
}

/** Sends a frame to the server that RR_RPC names, and gives what comes back of it. */
function call_back(string $call): string
{
    $other = stream_socket_client(getenv('RR_RPC'));
    fwrite($other, $call);
    $back = '';
    while (strlen($back) < 12 || strlen($back) < size_of($back)) {
        $more = fread($other, 65536);
        if ($more === '' || $more === false) {
            break;
        }
        $back .= $more;
    }
    return $back;
}

/** Bytes of the frame that begins so. */
function size_of(string $head): int
{
    return 12 + 4 * ((ord($head[0]) & 15) - 3) + unpack('V', substr($head, 2, 4))[1];
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

$served = 0;
while (true) {
    [$flags, $stream, $options, $payload] = next_frame();
    if ($stream & (STOP | PONG)) {
        continue;
    }
    if ($flags & CONTROL) {
        $control = json_decode($payload, true);
        if (!empty($control['stop'])) {
            exit(0);
        }
        put(frame(CONTROL, json_encode(['pid' => getmypid()])));
        continue;
    }
    $context = substr($payload, 0, $options[0]);
    $body = substr($payload, $options[0]);
    $served++;
    preg_match('~do:([a-z0-9-]+)(?::([0-9A-Za-z_./-]+))?~', $body, $found);
    $argument = $found[2] ?? '';
    if ($log = getenv('STANDIN_LOG')) {
        file_put_contents($log, getmypid() . ' got ' . ($found[1] ?? 'echo') . " $argument\n", FILE_APPEND);
    }
    switch ($found[1] ?? 'echo') {
        case 'echo':
            answer($body);
            break;
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
        case 'rpc-orphan':
            // Its parent is gone at once; it ends by itself.
            exec("sleep $argument >&2 &");
            rpc('left');
            break;
        case 'rpc-call':
            rpc(call_back(hex2bin($argument)));
            break;
        case 'call-then-hex':
            [$call, $rest] = explode('.', $argument);
            call_back(hex2bin($call));
            answer(hex2bin($rest));
            break;
        case 'frame':
            answer(json_encode([
                'flags' => $flags, 'stream' => $stream, 'options' => $options, 'context' => strlen($context),
            ]));
            break;
        case 'codec':
            put(frame((int) $argument, 'header' . $body, [6]));
            break;
        case 'context':
            answer($context);
            break;
        case 'with-context':
            answer('body', 'header');
            break;
        case 'pid':
            answer((string) getmypid());
            break;
        case 'served':
            answer((string) $served);
            break;
        case 'slowly':
            foreach (str_split(frame(0, $body, [0])) as $byte) {
                put($byte);
            }
            break;
        case 'big':
            answer(str_repeat('x', (int) $argument << 20));
            break;
        case 'sleep':
            usleep((int) ((float) $argument * 1000));
            answer($body);
            break;
        case 'soft':
            put(frame(ERROR, 'soft boom'));
            break;
        case 'drop':
            break;
        case 'twice':
            put(frame(0, $body, [0]) . frame(0, 'for somebody else', [0]));
            break;
        case 'empty':
            answer('');
            break;
        case 'exit':
            fwrite(STDERR, "leaving\n");
            exit((int) $argument);
        case 'answer-and-exit':
            answer($body);
            exit(0);
        case 'die':
            posix_kill(getmypid(), 9);
            break;
        case 'noise':
            put('oops, this is no frame at all: ' . str_repeat('x', 40) . "\n");
            break;
        case 'noise-and-answer':
            put("oops\n");
            answer($body);
            break;
        case 'crc':
            put(frame(0, $body, [0], 0, 1));
            break;
        case 'no-options':
            put(frame(0, $body));
            break;
        case 'two-options':
            put(frame(0, $body, [0, 0]));
            break;
        case 'beyond':
            put(frame(0, $body, [strlen($body) + 1]));
            break;
        case 'cut':
            put(substr(frame(0, $body, [0]), 0, 20));
            exit(5);
        case 'stream':
            for ($part = 0; $part < (int) $argument; $part++) {
                answer('part', '', MORE);
            }
            answer('end');
            break;
        case 'ping':
            answer('part', '', MORE | PING);
            $asked = 0;
            for ($seen = next_frame(); !($seen[1] & (STOP | PONG)); $seen = next_frame()) {
                $asked += $seen[0] & CONTROL;
            }
            answer('end');
            if ($asked) {
                put(frame(CONTROL, json_encode(['pid' => getmypid()])));
            }
            break;
        case 'replace':
            answer('', '{"stop":true}');
            break;
        case 'replace-once':
            if (file_exists($argument)) {
                answer((string) getmypid());
            } else {
                touch($argument);
                answer('', '{"stop":true}');
            }
            break;
        case 'stderr':
            fwrite(STDERR, str_repeat('y', (int) $argument) . "\n");
            answer($body);
            break;
        default:
            put(frame(ERROR, 'unknown directive ' . $found[1]));
    }
}
