package io.github.authsvc.client;

import java.time.Duration;

/**
 * A rate limit, and what is left of it.
 *
 * @param name its name
 * @param limit how many units there are in a period
 * @param period the period
 * @param remaining how many units are left
 * @param reset when all units are back if none is taken
 * @param ofOwner whether it is for all keys of the owner
 */
public record RateLimit(
    String name, long limit, Duration period, long remaining, Duration reset, boolean ofOwner) {}
