// The authenticated caller, for handlers.

import { badCredential, limited, scopeMissing } from "./refusal.js";
import { FULL_ACCESS, lacking } from "./verdict.js";
import type { CredentialType, Verdict } from "./verdict.js";

/** The credential of an accepted call, and its owner. */
export class Identity {
  readonly credentialId: string;
  readonly type: CredentialType;
  readonly ownerId: string;
  readonly scopes: readonly string[];
  readonly annotations: Readonly<Record<string, string>>;

  constructor(verdict: Verdict) {
    this.credentialId = verdict.credentialId;
    this.type = verdict.type;
    this.ownerId = verdict.ownerId;
    this.scopes = verdict.scopes;
    this.annotations = verdict.annotations;
  }

  /** Returns whether the credential has a scope, for checks that depend on the request. */
  has(scope: string): boolean {
    return this.scopes.includes(scope) || this.scopes.includes(FULL_ACCESS);
  }
}

/** Returns the identity for a verdict about these scopes. Throws Refusal if it is not VALID. */
export function identified(verdict: Verdict, scopes: readonly string[]): Identity {
  if (verdict.valid && verdict.code === "VALID") {
    return new Identity(verdict);
  }
  switch (verdict.code) {
    case "INSUFFICIENT_SCOPE":
      throw scopeMissing(lacking(verdict, scopes));
    case "RATE_LIMITED":
    case "CREDITS_EXHAUSTED":
      throw limited(verdict.code, verdict.retryAfterMs, verdict.rateLimits);
    default:
      throw badCredential(verdict.code);
  }
}
