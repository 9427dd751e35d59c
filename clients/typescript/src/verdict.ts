// Verdicts of authsvc on credentials. A negative verdict is an answer, not an error.

import { timestampDate } from "@bufbuild/protobuf/wkt";
import type { Duration } from "@bufbuild/protobuf/wkt";

import type { VerifyKeyResponse, VerifyTokenResponse } from "./gen/authsvc/v1/key_service_pb.js";
import { VerdictCode as Codes } from "./gen/authsvc/v1/resources_pb.js";
import type { RateLimitState } from "./gen/authsvc/v1/resources_pb.js";
import type { VerifySessionResponse } from "./gen/authsvc/v1/session_service_pb.js";

/** Has every scope. */
export const FULL_ACCESS = "full_access";

/** The type of a presented credential. */
export type CredentialType = "KEY" | "SESSION";

/** The result of a verification. OTHER is a code of a newer service, or a contradiction; it is not valid. */
export type VerdictCode = Exclude<keyof typeof Codes, "UNSPECIFIED"> | "OTHER";

/** A rate limit, and what is left of it. `resetSeconds` is when all units are back if none is taken. */
export interface RateLimit {
  readonly name: string;
  readonly limit: number;
  readonly periodSeconds: number;
  readonly remaining: number;
  readonly resetSeconds: number;
  /** Whether it is for all keys of the owner. */
  readonly ofOwner: boolean;
}

/**
 * The verdict on a credential. Check `valid`: a verdict is an object, and so it is truthy in any case.
 *
 * If `code` is NOT_FOUND, `credentialId` and the fields after it are empty.
 */
export interface Verdict {
  /** Whether to accept the request. */
  readonly valid: boolean;
  /** Why. INSUFFICIENT_SCOPE is 403, RATE_LIMITED and CREDITS_EXHAUSTED are 429, and all others are 401. */
  readonly code: VerdictCode;
  readonly type: CredentialType;
  /** The id of the key or session. */
  readonly credentialId: string;
  readonly ownerId: string;
  readonly scopes: readonly string[];
  /** Undefined if it never expires. A session expires at this time if it is not used before then. */
  readonly expireTime: Date | undefined;
  /** Those of a key. */
  readonly annotations: Readonly<Record<string, string>>;
  readonly rateLimits: readonly RateLimit[];
  /** How long to wait, with RATE_LIMITED and CREDITS_EXHAUSTED; undefined if waiting does not help. */
  readonly retryAfterMs: number | undefined;
  /** Undefined for a key without credits, or if it is not known. */
  readonly creditsRemaining: bigint | undefined;
}

type Answer = VerifyKeyResponse | VerifyTokenResponse | VerifySessionResponse;

/** Returns the verdict on a credential that does not exist. */
export function notFound(type: CredentialType): Verdict {
  return {
    valid: false,
    code: "NOT_FOUND",
    type,
    credentialId: "",
    ownerId: "",
    scopes: [],
    expireTime: undefined,
    annotations: {},
    rateLimits: [],
    retryAfterMs: undefined,
    creditsRemaining: undefined,
  };
}

/** Returns the verdict in a response. */
export function verdictOf(
  answer: Answer,
  type: CredentialType,
  credentialId: string,
  anyOf: readonly string[],
): Verdict {
  const code = codeOf(answer, anyOf);
  const ofKey = "rateLimits" in answer ? answer : undefined;
  return {
    valid: code === "VALID",
    code,
    type,
    credentialId,
    ownerId: answer.ownerId,
    scopes: answer.scopes,
    expireTime: answer.expireTime && timestampDate(answer.expireTime),
    annotations: { ...ofKey?.annotations },
    rateLimits: (ofKey?.rateLimits ?? []).map(limitOf),
    retryAfterMs: ofKey?.retryAfter && milliseconds(ofKey.retryAfter),
    creditsRemaining: ofKey?.creditsRemaining,
  };
}

/** Returns which of some scopes a credential with the scopes of a verdict lacks. */
export function lacking(verdict: Verdict, scopes: readonly string[]): string[] {
  return verdict.scopes.includes(FULL_ACCESS)
    ? []
    : scopes.filter((scope) => !verdict.scopes.includes(scope));
}

/** Returns the milliseconds of a duration. */
export function milliseconds(duration: Duration): number {
  return Number(duration.seconds) * 1000 + duration.nanos / 1e6;
}

// VALID only if both fields agree. A service that is too old to know of `anyOf` has not looked at them.
function codeOf(answer: Answer, anyOf: readonly string[]): VerdictCode {
  const name = Codes[answer.code] as keyof typeof Codes | undefined;
  const code = name === undefined || name === "UNSPECIFIED" ? "OTHER" : name;
  const shown = answer.scopes.some((scope) => scope === FULL_ACCESS || anyOf.includes(scope));
  if (code === "VALID" && anyOf.length > 0 && !shown) {
    return "INSUFFICIENT_SCOPE";
  }
  return answer.valid === (code === "VALID") ? code : "OTHER";
}

function limitOf(state: RateLimitState): RateLimit {
  return {
    name: state.name,
    limit: state.limit,
    periodSeconds: Number(state.period?.seconds ?? 0n),
    remaining: state.remaining,
    resetSeconds: Number(state.reset?.seconds ?? 0n),
    ofOwner: state.ofOwner,
  };
}
