package io.github.authsvc.client;

import com.google.protobuf.Any;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.time.Duration;
import java.util.List;
import java.util.Map;

/**
 * A call or request that is refused: a code, a stable reason, and a message that says what to do.
 */
final class Refusal extends Exception {
  private static final long serialVersionUID = 1L;
  private static final int MAX_METADATA_LENGTH = 3200;

  private final Status.Code code;
  private final String reason;
  private final Duration retryAfter;
  private final transient List<RateLimit> limits;
  private final transient Map<String, String> metadata;

  private Refusal(
      Status.Code code,
      String message,
      String reason,
      Duration retryAfter,
      List<RateLimit> limits,
      Map<String, String> metadata) {
    super(message, null, false, false);
    this.code = code;
    this.reason = reason;
    this.retryAfter = retryAfter;
    this.limits = limits;
    this.metadata = metadata;
  }

  Status.Code code() {
    return code;
  }

  String reason() {
    return reason;
  }

  /** Returns when to retry, or null. */
  Duration retryAfter() {
    return retryAfter;
  }

  List<RateLimit> limits() {
    return limits;
  }

  /** Returns the scopes that are missing, separated by spaces, or "". */
  String missing() {
    return metadata.getOrDefault("required_scope", "");
  }

  static Refusal missingCredential() {
    return unauthenticated(
        "send your key: authorization: Bearer <key string>", "CREDENTIAL_MISSING");
  }

  static Refusal scheme() {
    return unauthenticated(
        "the authorization header has an unsupported scheme; use: Bearer <key string>",
        "CREDENTIAL_SCHEME");
  }

  /** Several credentials: it is unclear which one counts. */
  static Refusal ambiguous() {
    return unauthenticated("send exactly one credential", "CREDENTIAL_AMBIGUOUS");
  }

  /** Returns the refusal for a verdict about these scopes, which is not VALID. */
  static Refusal of(Verdict verdict, List<String> scopes) {
    // The service refuses its own callers in the same words.
    return switch (verdict.code()) {
      case NOT_FOUND -> bad("INVALID", "is not known; check that it was copied completely");
      case REVOKED -> bad("REVOKED", "was revoked; create a new key, or sign in again");
      case EXPIRED ->
          bad("EXPIRED", "has expired; create or rotate to a new key, or sign in again");
      case DISABLED ->
          bad(
              "DISABLED",
              "is a key that is disabled, or the policy of its owner has switched keys off; enable"
                  + " it, or sign in");
      case ADDRESS_NOT_ALLOWED ->
          bad(
              "ADDRESS_NOT_ALLOWED",
              "may not be used from this address; call from one of its allowed_networks, or change"
                  + " these");
      case INSUFFICIENT_SCOPE -> scopeMissing(verdict.lacks(scopes));
      case RATE_LIMITED ->
          limited(
              verdict,
              "RATE_LIMITED",
              "has reached a rate limit; retry later, and send fewer requests");
      case CREDITS_EXHAUSTED ->
          limited(
              verdict,
              "CREDITS_EXHAUSTED",
              "has too few credits; wait for the next refill, or ask its owner for more");
      case VALID, OTHER -> bad("INVALID", "is not accepted");
    };
  }

  static Refusal methodNotListed(String method) {
    return new Refusal(
        Status.Code.PERMISSION_DENIED,
        "the service has no scopes configured for this method; it must list the method",
        "METHOD_NOT_LISTED",
        null,
        List.of(),
        Map.of("method", cut(method, MAX_METADATA_LENGTH)));
  }

  /** The credential cannot be verified at the moment. The cause is only in our log. */
  static Refusal unavailable(Duration retryAfter) {
    return new Refusal(
        Status.Code.UNAVAILABLE,
        "the credential cannot be verified right now; retry",
        "VERIFIER_UNAVAILABLE",
        retryAfter == null ? Duration.ofSeconds(1) : retryAfter,
        List.of(),
        Map.of());
  }

  /** Returns the status and the trailers for a client of gRPC. */
  StatusRuntimeException status() {
    com.google.rpc.Status.Builder status =
        com.google.rpc.Status.newBuilder()
            .setCode(code.value())
            .setMessage(getMessage())
            .addDetails(
                Any.pack(
                    ErrorInfo.newBuilder()
                        .setReason(reason)
                        .setDomain(Details.DOMAIN)
                        .putAllMetadata(metadata)
                        .build()));
    if (retryAfter != null) {
      com.google.protobuf.Duration delay =
          com.google.protobuf.Duration.newBuilder()
              .setSeconds(retryAfter.getSeconds())
              .setNanos(retryAfter.getNano())
              .build();
      status.addDetails(Any.pack(RetryInfo.newBuilder().setRetryDelay(delay).build()));
    }
    return StatusProto.toStatusRuntimeException(status.build());
  }

  private static Refusal unauthenticated(String message, String reason) {
    return new Refusal(Status.Code.UNAUTHENTICATED, message, reason, null, List.of(), Map.of());
  }

  private static Refusal bad(String reason, String problem) {
    return unauthenticated("the presented credential " + problem, "CREDENTIAL_" + reason);
  }

  private static Refusal limited(Verdict verdict, String reason, String problem) {
    return new Refusal(
        Status.Code.RESOURCE_EXHAUSTED,
        "the presented credential " + problem,
        "CREDENTIAL_" + reason,
        verdict.retryAfter().orElse(null),
        verdict.rateLimits(),
        Map.of());
  }

  private static Refusal scopeMissing(List<String> missing) {
    String named = cut(String.join(" ", missing), MAX_METADATA_LENGTH);
    return new Refusal(
        Status.Code.PERMISSION_DENIED,
        "this needs the scope " + cut(named, 200),
        "SCOPE_MISSING",
        null,
        List.of(),
        Map.of("required_scope", named));
  }

  private static String cut(String text, int longest) {
    return text.length() > longest ? text.substring(0, longest) : text;
  }
}
