package io.github.authsvc.client;

import com.google.protobuf.Timestamp;
import io.github.authsvc.v1.RateLimitState;
import io.github.authsvc.v1.VerifyKeyResponse;
import io.github.authsvc.v1.VerifySessionResponse;
import io.github.authsvc.v1.VerifyTokenResponse;
import java.time.Duration;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalLong;

/**
 * The verdict on a credential. If {@code code} is NOT_FOUND, {@code credentialId} and what follows
 * are empty.
 *
 * @param code why it is valid or not
 * @param type the type of the credential
 * @param credentialId the id of the key or session
 * @param ownerId the user or organization that it belongs to
 * @param scopes its scopes, sorted
 * @param expireTime when it expires; a session, if it is not used before then. Empty if it never
 *     expires
 * @param annotations those of a key
 * @param rateLimits those of a key, and what is left of them
 * @param retryAfter how long to wait, with RATE_LIMITED and CREDITS_EXHAUSTED; empty if waiting
 *     does not help
 * @param creditsRemaining empty for a key without credits, or if it is not known
 */
public record Verdict(
    VerdictCode code,
    CredentialType type,
    String credentialId,
    String ownerId,
    List<String> scopes,
    Optional<Instant> expireTime,
    Map<String, String> annotations,
    List<RateLimit> rateLimits,
    Optional<Duration> retryAfter,
    OptionalLong creditsRemaining) {

  /** Has every scope. */
  static final String FULL_ACCESS = "full_access";

  /** Copies the collections, so that a verdict does not change. */
  public Verdict {
    scopes = List.copyOf(scopes);
    annotations = Map.copyOf(annotations);
    rateLimits = List.copyOf(rateLimits);
  }

  /** Returns whether to accept the request. */
  public boolean valid() {
    return code == VerdictCode.VALID;
  }

  /** Returns which of some scopes the credential lacks. */
  List<String> lacks(List<String> required) {
    return scopes.contains(FULL_ACCESS)
        ? List.of()
        : required.stream().filter(scope -> !scopes.contains(scope)).toList();
  }

  static Verdict notFound(CredentialType type) {
    return new Verdict(
        VerdictCode.NOT_FOUND,
        type,
        "",
        "",
        List.of(),
        Optional.empty(),
        Map.of(),
        List.of(),
        Optional.empty(),
        OptionalLong.empty());
  }

  static Verdict of(VerifyKeyResponse answer, List<String> anyOf) {
    return new Verdict(
        code(answer.getValid(), answer.getCode(), answer.getScopesList(), anyOf),
        CredentialType.KEY,
        answer.getKeyId(),
        answer.getOwnerId(),
        answer.getScopesList(),
        answer.hasExpireTime() ? instant(answer.getExpireTime()) : Optional.empty(),
        answer.getAnnotationsMap(),
        limits(answer.getRateLimitsList()),
        answer.hasRetryAfter() ? Optional.of(duration(answer.getRetryAfter())) : Optional.empty(),
        answer.hasCreditsRemaining()
            ? OptionalLong.of(answer.getCreditsRemaining())
            : OptionalLong.empty());
  }

  static Verdict of(VerifyTokenResponse answer, List<String> anyOf) {
    boolean ofKey = answer.getSessionId().isEmpty();
    return new Verdict(
        code(answer.getValid(), answer.getCode(), answer.getScopesList(), anyOf),
        ofKey ? CredentialType.KEY : CredentialType.SESSION,
        answer.getKeyId().isEmpty() ? answer.getSessionId() : answer.getKeyId(),
        answer.getOwnerId(),
        answer.getScopesList(),
        answer.hasExpireTime() ? instant(answer.getExpireTime()) : Optional.empty(),
        answer.getAnnotationsMap(),
        limits(answer.getRateLimitsList()),
        answer.hasRetryAfter() ? Optional.of(duration(answer.getRetryAfter())) : Optional.empty(),
        answer.hasCreditsRemaining()
            ? OptionalLong.of(answer.getCreditsRemaining())
            : OptionalLong.empty());
  }

  static Verdict of(VerifySessionResponse answer, List<String> anyOf) {
    return new Verdict(
        code(answer.getValid(), answer.getCode(), answer.getScopesList(), anyOf),
        CredentialType.SESSION,
        answer.getSessionId(),
        answer.getOwnerId(),
        answer.getScopesList(),
        answer.hasExpireTime() ? instant(answer.getExpireTime()) : Optional.empty(),
        Map.of(),
        List.of(),
        Optional.empty(),
        OptionalLong.empty());
  }

  // VALID only if both fields agree. A service that is too old to know of `anyOf` has not looked at
  // them.
  private static VerdictCode code(
      boolean valid,
      io.github.authsvc.v1.VerdictCode sent,
      List<String> scopes,
      List<String> anyOf) {
    VerdictCode code = VerdictCode.of(sent);
    boolean shown =
        scopes.stream().anyMatch(scope -> scope.equals(FULL_ACCESS) || anyOf.contains(scope));
    if (code == VerdictCode.VALID && !anyOf.isEmpty() && !shown) {
      return VerdictCode.INSUFFICIENT_SCOPE;
    }
    return valid == (code == VerdictCode.VALID) ? code : VerdictCode.OTHER;
  }

  private static List<RateLimit> limits(List<RateLimitState> states) {
    return states.stream()
        .map(
            each ->
                new RateLimit(
                    each.getName(),
                    each.getLimit(),
                    duration(each.getPeriod()),
                    each.getRemaining(),
                    duration(each.getReset()),
                    each.getOfOwner()))
        .toList();
  }

  private static Optional<Instant> instant(Timestamp time) {
    return Optional.of(Instant.ofEpochSecond(time.getSeconds(), time.getNanos()));
  }

  private static Duration duration(com.google.protobuf.Duration sent) {
    return Duration.ofSeconds(sent.getSeconds(), sent.getNanos());
  }
}
