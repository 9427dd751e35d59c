package io.github.authsvc.client;

import io.grpc.Status;

/** Authsvc refuses the client's own key, or its request. A retry fails until the cause is fixed. */
public final class RefusedException extends ClientException {
  private static final long serialVersionUID = 1L;

  RefusedException(String message, Status.Code code, String reason) {
    super(message, code, reason);
  }
}
