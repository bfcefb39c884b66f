<?php
// Frames of the goridge protocol over a pair of streams.

declare(strict_types=1);

namespace Spiral\Goridge;

final class Line
{
    public const CONTROL = 0x01;
    public const ERROR = 0x40;
    public const PROTO = 0x80;

    /**
     * @param resource $in
     * @param resource $out
     */
    public function __construct(private $in, private $out)
    {
    }

    /** A line to `tcp://HOST:PORT` or `unix://PATH`. */
    public static function to(string $address): self
    {
        $socket = @stream_socket_client($address, $code, $why, 5);
        if ($socket === false) {
            throw new \RuntimeException("no connection to $address: $why");
        }
        return new self($socket, $socket);
    }

    /** Writes a frame in one piece. */
    public function send(int $flags, string $payload, int ...$options): void
    {
        $head = chr(0x10 | 3 + count($options)) . chr($flags) . pack('V', strlen($payload));
        $bytes = $head . pack('V', crc32($head)) . "\0\0" . pack('V*', ...$options) . $payload;
        while ($bytes !== '') {
            $written = fwrite($this->out, $bytes);
            if ($written === false || $written === 0) {
                throw new \RuntimeException('the other side is gone');
            }
            $bytes = substr($bytes, $written);
        }
        fflush($this->out);
    }

    /**
     * The next frame: its flags, its options, its payload.
     *
     * @return array{int, list<int>, string}
     */
    public function receive(): array
    {
        $head = $this->take(12);
        if (crc32(substr($head, 0, 6)) !== unpack('V', $head, 6)[1]) {
            throw new \RuntimeException('a frame with a bad checksum');
        }
        $words = (ord($head[0]) & 15) - 3;
        $options = $words > 0 ? array_values(unpack('V*', $this->take(4 * $words))) : [];
        return [ord($head[1]), $options, $this->take(unpack('V', $head, 2)[1])];
    }

    private function take(int $count): string
    {
        $data = '';
        while (strlen($data) < $count) {
            $more = fread($this->in, $count - strlen($data));
            if ($more === '' || $more === false) {
                throw new \RuntimeException('the other side has closed the line');
            }
            $data .= $more;
        }
        return $data;
    }
}
