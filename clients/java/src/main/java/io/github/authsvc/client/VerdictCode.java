package io.github.authsvc.client;

/** The result of a verification. */
public enum VerdictCode {
  /** Accept the request. */
  VALID,
  /** Unknown, malformed or deleted, with a wrong secret, or of another owner. */
  NOT_FOUND,
  /** It was revoked. */
  REVOKED,
  /** It has expired. */
  EXPIRED,
  /** It is valid, but lacks a scope. This is 403. */
  INSUFFICIENT_SCOPE,
  /** The key, or all keys of its owner, are disabled. */
  DISABLED,
  /** The key cannot be used from this address. */
  ADDRESS_NOT_ALLOWED,
  /** A rate limit is reached. This is 429. */
  RATE_LIMITED,
  /** The key has too few credits. This is 429. */
  CREDITS_EXHAUSTED,
  /** A code of a newer service, or a contradiction. It is not valid. */
  OTHER;

  static VerdictCode of(io.github.authsvc.v1.VerdictCode code) {
    return switch (code) {
      case VERDICT_CODE_VALID -> VALID;
      case VERDICT_CODE_NOT_FOUND -> NOT_FOUND;
      case VERDICT_CODE_REVOKED -> REVOKED;
      case VERDICT_CODE_EXPIRED -> EXPIRED;
      case VERDICT_CODE_INSUFFICIENT_SCOPE -> INSUFFICIENT_SCOPE;
      case VERDICT_CODE_DISABLED -> DISABLED;
      case VERDICT_CODE_ADDRESS_NOT_ALLOWED -> ADDRESS_NOT_ALLOWED;
      case VERDICT_CODE_RATE_LIMITED -> RATE_LIMITED;
      case VERDICT_CODE_CREDITS_EXHAUSTED -> CREDITS_EXHAUSTED;
      default -> OTHER;
    };
  }
}
