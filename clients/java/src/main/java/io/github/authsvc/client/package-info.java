/**
 * The client of authsvc for Java.
 *
 * <p>{@link io.github.authsvc.client.AuthClient} verifies credentials. {@link
 * io.github.authsvc.client.GrpcGuard} and {@link io.github.authsvc.client.ServletGuard} verify
 * every call of a server, and refuse everything that is not plainly good.
 *
 * <p>A verdict is about the call that asked for it: nothing is cached, so a key that RevokeKey has
 * revoked is accepted by no call that is sent afterwards.
 */
package io.github.authsvc.client;
