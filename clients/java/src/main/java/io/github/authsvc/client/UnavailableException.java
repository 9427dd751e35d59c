package io.github.authsvc.client;

import io.grpc.Status;
import java.time.Duration;
import java.util.Optional;

/**
 * The answer is not known at the moment: neither accept nor reject the credential. Answer 503,
 * never 401.
 */
public final class UnavailableException extends ClientException {
  private static final long serialVersionUID = 1L;
  private final Duration retryAfter;

  UnavailableException(String message, Status.Code code, String reason, Duration retryAfter) {
    super(message, code, reason);
    this.retryAfter = retryAfter;
  }

  /** Returns the delay that authsvc gave, if it gave one. */
  public Optional<Duration> retryAfter() {
    return Optional.ofNullable(retryAfter);
  }
}
