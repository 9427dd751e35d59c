package io.github.authsvc.client;

import io.grpc.Status;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.function.Function;
import java.util.stream.Collectors;

/**
 * A refusal as an HTTP response: the challenge of RFC 6750, and the problem of RFC 9457.
 *
 * @param status the status code
 * @param headers the headers
 * @param body JSON
 */
record Problem(int status, Map<String, String> headers, String body) {

  static Problem of(Refusal refusal) {
    int status = statusOf(refusal.code());
    Told told = told(refusal.reason());
    Map<String, String> headers = new LinkedHashMap<>();
    headers.put("Content-Type", "application/problem+json");
    headers.put("Cache-Control", "no-store");
    if (status == 401 || !told.error.isEmpty()) {
      headers.put("WWW-Authenticate", challenge(told.error, refusal));
    }
    if (refusal.retryAfter() != null) {
      long seconds = (refusal.retryAfter().toMillis() + 999) / 1000;
      headers.put("Retry-After", Long.toString(Math.max(1, seconds)));
    }
    if (!refusal.limits().isEmpty()) {
      // By draft-ietf-httpapi-ratelimit-headers-10.
      headers.put(
          "RateLimit-Policy",
          joined(
              refusal.limits(), each -> ";q=" + each.limit() + ";w=" + each.period().toSeconds()));
      headers.put(
          "RateLimit",
          joined(
              refusal.limits(),
              each -> ";r=" + each.remaining() + ";t=" + each.reset().toSeconds()));
    }
    return new Problem(status, headers, body(status, told.title, refusal));
  }

  // The title, and the error of RFC 6750: none for a request without a credential that we can read.
  private record Told(String title, String error) {}

  private static Told told(String reason) {
    return switch (reason) {
      case "CREDENTIAL_MISSING" -> new Told("A credential is required", "");
      case "CREDENTIAL_SCHEME" -> new Told("The scheme is not supported", "");
      case "CREDENTIAL_AMBIGUOUS" -> new Told("The credential is ambiguous", "invalid_request");
      case "CREDENTIAL_RATE_LIMITED" -> new Told("A rate limit is reached", "");
      case "CREDENTIAL_CREDITS_EXHAUSTED" -> new Told("There are too few credits", "");
      case "SCOPE_MISSING" -> new Told("A scope is missing", "insufficient_scope");
      case "VERIFIER_UNAVAILABLE" -> new Told("Temporarily unavailable", "");
      default -> new Told("The credential is not valid", "invalid_token");
    };
  }

  private static int statusOf(Status.Code code) {
    return switch (code) {
      case UNAUTHENTICATED -> 401;
      case PERMISSION_DENIED -> 403;
      case RESOURCE_EXHAUSTED -> 429;
      default -> 503;
    };
  }

  private static String challenge(String error, Refusal refusal) {
    StringBuilder challenge = new StringBuilder("Bearer realm=\"authsvc\"");
    if (!error.isEmpty()) {
      challenge.append(", error=\"").append(error);
      challenge
          .append("\", error_description=\"")
          .append(quotable(refusal.getMessage()))
          .append('"');
    }
    if (!refusal.missing().isEmpty()) {
      challenge.append(", scope=\"").append(quotable(refusal.missing())).append('"');
    }
    return challenge.toString();
  }

  private static String body(int status, String title, Refusal refusal) {
    String type = refusal.reason().toLowerCase(Locale.ROOT).replace('_', '-');
    String body =
        "{\"type\": \"urn:authsvc:problem:%s\", \"title\": %s, \"status\": %d, \"detail\": %s, \"reason\": %s"
            .formatted(
                type, json(title), status, json(refusal.getMessage()), json(refusal.reason()));
    if (refusal.missing().isEmpty()) {
      return body + "}";
    }
    String missing =
        List.of(refusal.missing().split(" ")).stream()
            .map(Problem::json)
            .collect(Collectors.joining(", "));
    return body + ", \"missing_scopes\": [" + missing + "]}";
  }

  private static String joined(List<RateLimit> limits, Function<RateLimit, String> parameters) {
    return limits.stream()
        .map(
            each ->
                (each.ofOwner() ? "\"owner." : "\"") + each.name() + '"' + parameters.apply(each))
        .collect(Collectors.joining(", "));
  }

  // What a quoted string in a challenge may not hold (RFC 6750, section 3).
  private static String quotable(String text) {
    return text.replaceAll("[^\\x20\\x21\\x23-\\x5b\\x5d-\\x7e]", "");
  }

  // All texts here are ASCII: reasons, messages of this package, and scopes.
  private static String json(String text) {
    return '"' + text.replace("\\", "\\\\").replace("\"", "\\\"") + '"';
  }
}
