<?php
// The least that a worker can be: frames by hand, and the data of an rpc sent back. What it costs is the
// host's cost.

while (true) {
    $head = fread(STDIN, 12);
    if ($head === false || strlen($head) < 12) {
        exit(255);
    }
    $words = (ord($head[0]) & 15) - 3;
    $size = unpack('V', $head, 2)[1] + 4 * $words;
    $rest = '';
    while (strlen($rest) < $size) {
        $more = fread(STDIN, $size - strlen($rest));
        if ($more === '' || $more === false) {
            exit(255);
        }
        $rest .= $more;
    }
    if (ord($head[1]) & 1) {
        if (str_contains($rest, 'stop')) {
            exit(0);
        }
        $flags = "\x13\x01";
        $payload = '{"pid":' . getmypid() . '}';
        $option = '';
    } else {
        // The bench's requests end with their data, of less than 128 bytes, behind the method.
        $data = substr($rest, strpos($rest, 'bench.echo') + 12);
        $flags = "\x14\x00";
        $payload = "\x0a" . chr(strlen($data) + 2) . "\x0a" . chr(strlen($data)) . $data;
        $option = "\0\0\0\0";
    }
    $start = $flags . pack('V', strlen($payload));
    fwrite(STDOUT, $start . pack('V', crc32($start)) . "\0\0" . $option . $payload);
}
