package io.github.authsvc.client;

/**
 * A header of a request. A header that was sent twice is there twice.
 *
 * @param name its name, in any case
 * @param value its value
 */
public record Header(String name, String value) {}
