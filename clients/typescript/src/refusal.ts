// Refusals of calls and requests: a status code, a stable reason, and a message that says what to do.

import type { StatusCode } from "./errors.js";
import type { RateLimit, VerdictCode } from "./verdict.js";

const MAX_METADATA_LENGTH = 3200;
// The service refuses its own callers in the same words, which follow "the presented credential ...".
const BAD: Partial<Record<VerdictCode, readonly [string, string]>> = {
  NOT_FOUND: ["CREDENTIAL_INVALID", "is not known; check that it was copied completely"],
  REVOKED: ["CREDENTIAL_REVOKED", "was revoked; create a new key, or sign in again"],
  EXPIRED: ["CREDENTIAL_EXPIRED", "has expired; create or rotate to a new key, or sign in again"],
  DISABLED: [
    "CREDENTIAL_DISABLED",
    "is a key that is disabled, or the policy of its owner has switched keys off; enable it, or sign in",
  ],
  ADDRESS_NOT_ALLOWED: [
    "CREDENTIAL_ADDRESS_NOT_ALLOWED",
    "may not be used from this address; call from one of its allowed_networks, or change these",
  ],
};
const LIMITED = {
  RATE_LIMITED: ["CREDENTIAL_RATE_LIMITED", "has reached a rate limit; retry later, and send fewer requests"],
  CREDITS_EXHAUSTED: [
    "CREDENTIAL_CREDITS_EXHAUSTED",
    "has too few credits; wait for the next refill, or ask its owner for more",
  ],
} as const;

interface Details {
  readonly retryAfterMs?: number | undefined;
  readonly limits?: readonly RateLimit[];
  readonly metadata?: Record<string, string>;
}

/** A call or request that is refused. It is thrown within this package only. */
export class Refusal extends Error {
  readonly retryAfterMs: number | undefined;
  readonly limits: readonly RateLimit[];
  readonly metadata: Record<string, string>;

  constructor(
    readonly code: StatusCode,
    message: string,
    readonly reason: string,
    details: Details = {},
  ) {
    super(message);
    this.name = "Refusal";
    this.retryAfterMs = details.retryAfterMs;
    this.limits = details.limits ?? [];
    this.metadata = details.metadata ?? {};
  }
}

/** Returns the refusal of a caller that is not authenticated. */
export function unauthenticated(message: string, reason: string): Refusal {
  return new Refusal("UNAUTHENTICATED", message, reason);
}

/** Returns the refusal of several credentials: it is unclear which one counts. */
export function ambiguous(): Refusal {
  return unauthenticated("send exactly one credential", "CREDENTIAL_AMBIGUOUS");
}

/** Returns the refusal of a credential that is not valid, with the cause. */
export function badCredential(code: VerdictCode): Refusal {
  const [reason, problem] = BAD[code] ?? ["CREDENTIAL_INVALID", "is not accepted"];
  return unauthenticated(`the presented credential ${problem}`, reason);
}

/** Returns the refusal of a key that has reached a rate limit or has no credits. */
export function limited(
  code: keyof typeof LIMITED,
  retryAfterMs: number | undefined,
  limits: readonly RateLimit[],
): Refusal {
  const [reason, problem] = LIMITED[code];
  return new Refusal("RESOURCE_EXHAUSTED", `the presented credential ${problem}`, reason, {
    retryAfterMs,
    limits,
  });
}

/** Returns the refusal of a valid credential that lacks scopes. */
export function scopeMissing(missing: readonly string[]): Refusal {
  const named = missing.join(" ").slice(0, MAX_METADATA_LENGTH);
  const metadata = { required_scope: named };
  return new Refusal("PERMISSION_DENIED", `this needs the scope ${named.slice(0, 200)}`, "SCOPE_MISSING", {
    metadata,
  });
}

/** Returns the refusal of a method for which no scopes are configured. */
export function methodNotListed(method: string): Refusal {
  return new Refusal(
    "PERMISSION_DENIED",
    "the service has no scopes configured for this method; it must list the method",
    "METHOD_NOT_LISTED",
    { metadata: { method: method.slice(0, MAX_METADATA_LENGTH) } },
  );
}

/**
 * Returns the refusal of a credential that cannot be verified at the moment. The cause is only in our log.
 */
export function unavailable(retryAfterMs: number | undefined): Refusal {
  return new Refusal(
    "UNAVAILABLE",
    "the credential cannot be verified right now; retry",
    "VERIFIER_UNAVAILABLE",
    { retryAfterMs: retryAfterMs ?? 1000 },
  );
}
