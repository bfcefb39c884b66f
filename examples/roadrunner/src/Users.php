<?php

declare(strict_types=1);

namespace App;

/** Who may come in. A real application asks its database. */
final class Users
{
    private const TOKENS = ['alices-token' => 'alice', 'bobs-token' => 'bob'];

    public static function of(string $token): ?string
    {
        return self::TOKENS[$token] ?? null;
    }

    /** Until when a session lasts, as Unix time in seconds. */
    public static function expiry(): int
    {
        return time() + (int) (getenv('SESSION_SECONDS') ?: 900);
    }
}
