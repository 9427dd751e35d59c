package io.github.authsvc.client;

import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.util.EnumSet;
import java.util.Set;

/**
 * What calls of authsvc throw. A credential that is not valid is a {@link Verdict}, not an
 * exception.
 *
 * <p>Messages contain no key strings: they repeat those of authsvc and gRPC, never the request.
 */
public abstract sealed class ClientException extends RuntimeException
    permits UnavailableException, RefusedException {
  private static final long serialVersionUID = 1L;
  // Codes for which a retry does not help.
  private static final Set<Status.Code> REFUSALS =
      EnumSet.of(
          Status.Code.UNAUTHENTICATED,
          Status.Code.PERMISSION_DENIED,
          Status.Code.INVALID_ARGUMENT,
          Status.Code.FAILED_PRECONDITION,
          Status.Code.UNIMPLEMENTED,
          Status.Code.NOT_FOUND);

  private final Status.Code code;
  private final String reason;

  ClientException(String message, Status.Code code, String reason) {
    super(message);
    this.code = code;
    this.reason = reason;
  }

  /** Returns the code of gRPC. */
  public Status.Code code() {
    return code;
  }

  /** Returns the stable UPPER_SNAKE reason of authsvc, or "". */
  public String reason() {
    return reason;
  }

  /** Returns the exception for a call of gRPC that has failed. */
  static ClientException of(StatusRuntimeException failed) {
    Status status = failed.getStatus();
    Details details = Details.read(failed.getTrailers());
    String told = status.getDescription() == null ? "" : status.getDescription();
    if (REFUSALS.contains(status.getCode())) {
      String message = "authsvc refuses the request: " + told + " (" + status.getCode() + ")";
      return new RefusedException(message, status.getCode(), details.reason());
    }
    String message = "authsvc has not answered: " + told + " (" + status.getCode() + ")";
    return new UnavailableException(
        message, status.getCode(), details.reason(), details.retryAfter());
  }

  /** Returns the exception for a call whose time is over. */
  static UnavailableException timeIsOver() {
    Status.Code code = Status.Code.DEADLINE_EXCEEDED;
    return new UnavailableException(
        "authsvc has not answered in time (" + code + ")", code, "", null);
  }

  /** Returns the exception for a call of a client that is closed. */
  static UnavailableException closed() {
    return new UnavailableException(
        "the client was closed", Status.Code.CANCELLED, "CLIENT_CLOSED", null);
  }
}
