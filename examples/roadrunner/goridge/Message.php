<?php
// As much of protobuf as Centrifugo's messages need.

declare(strict_types=1);

namespace Spiral\Goridge;

final class Message
{
    /** A field of bytes, left out if it is empty. */
    public static function bytes(int $number, string $value): string
    {
        return $value === '' ? '' : self::message($number, $value);
    }

    /** A field that holds a message, there even if that is empty. */
    public static function message(int $number, string $value): string
    {
        return self::varint($number << 3 | 2) . self::varint(strlen($value)) . $value;
    }

    /** A number that is not negative, left out if it is 0. */
    public static function number(int $number, int $value): string
    {
        return $value === 0 ? '' : self::varint($number << 3) . self::varint($value);
    }

    /** A value as JSON, left out if it is empty. */
    public static function json(int $number, array $value): string
    {
        return $value === [] ? '' : self::message($number, json_encode($value, JSON_THROW_ON_ERROR));
    }

    /**
     * All fields of a message by their number; the last one wins.
     *
     * @return array<int, int|string>
     */
    public static function fields(string $bytes): array
    {
        $fields = [];
        $at = 0;
        while ($at < strlen($bytes)) {
            $tag = self::read($bytes, $at);
            $size = match ($tag & 7) {
                0 => null,
                1 => 8,
                2 => self::read($bytes, $at),
                5 => 4,
                default => throw new \UnexpectedValueException('no protobuf'),
            };
            if ($size === null) {
                $fields[$tag >> 3] = self::read($bytes, $at);
                continue;
            }
            if ($at + $size > strlen($bytes)) {
                throw new \UnexpectedValueException('a message that ends too early');
            }
            $fields[$tag >> 3] = substr($bytes, $at, $size);
            $at += $size;
        }
        return $fields;
    }

    private static function varint(int $value): string
    {
        $bytes = '';
        while ($value > 127) {
            $bytes .= chr($value & 127 | 128);
            $value >>= 7;
        }
        return $bytes . chr($value);
    }

    private static function read(string $bytes, int &$at): int
    {
        for ($value = 0, $shift = 0; $at < strlen($bytes) && $shift < 64; $shift += 7) {
            $byte = ord($bytes[$at++]);
            $value |= ($byte & 127) << $shift;
            if ($byte < 128) {
                return $value;
            }
        }
        throw new \UnexpectedValueException('a number that does not end');
    }
}
