// Errors of calls to authsvc. A credential that is not valid is a verdict, not an error. Messages contain no
// key strings: they repeat those of authsvc and gRPC, never the request.

/** The names of gRPC's status codes, by number. */
const NAMES = [
  "OK",
  "CANCELLED",
  "UNKNOWN",
  "INVALID_ARGUMENT",
  "DEADLINE_EXCEEDED",
  "NOT_FOUND",
  "ALREADY_EXISTS",
  "PERMISSION_DENIED",
  "RESOURCE_EXHAUSTED",
  "FAILED_PRECONDITION",
  "ABORTED",
  "OUT_OF_RANGE",
  "UNIMPLEMENTED",
  "INTERNAL",
  "UNAVAILABLE",
  "DATA_LOSS",
  "UNAUTHENTICATED",
] as const;

/** The name of a status code of gRPC. */
export type StatusCode = (typeof NAMES)[number];

// Codes for which a retry does not help.
const REFUSALS: ReadonlySet<StatusCode> = new Set<StatusCode>([
  "UNAUTHENTICATED",
  "PERMISSION_DENIED",
  "INVALID_ARGUMENT",
  "FAILED_PRECONDITION",
  "UNIMPLEMENTED",
  "NOT_FOUND",
]);

/** The base class. `code` is gRPC's; `reason` is authsvc's stable UPPER_SNAKE reason, or "". */
export abstract class ClientError extends Error {
  constructor(
    message: string,
    readonly code: StatusCode,
    readonly reason: string = "",
  ) {
    super(message);
    this.name = new.target.name;
  }
}

/**
 * The answer is not known at the moment: neither accept nor reject the credential. Answer 503, never 401.
 * `retryAfterMs` is the delay that authsvc gave; undefined if it gave none.
 */
export class Unavailable extends ClientError {
  constructor(
    message: string,
    code: StatusCode,
    reason = "",
    readonly retryAfterMs: number | undefined = undefined,
  ) {
    super(message, code, reason);
  }
}

/** Authsvc refuses the client's own key, or its request. A retry fails until the cause is fixed. */
export class Refused extends ClientError {}

/** Returns the name of a code, by its number. */
export function codeName(number: number): StatusCode {
  return NAMES[number] ?? "UNKNOWN";
}

/** Returns the number of a code. */
export function codeNumber(code: StatusCode): number {
  return NAMES.indexOf(code);
}

/** Returns the error for a status. */
export function errorOf(
  code: StatusCode,
  details: string,
  reason = "",
  retryAfterMs: number | undefined = undefined,
): Unavailable | Refused {
  if (REFUSALS.has(code)) {
    return new Refused(`authsvc refuses the request: ${details} (${code})`, code, reason);
  }
  return new Unavailable(`authsvc has not answered: ${details} (${code})`, code, reason, retryAfterMs);
}

/** Returns the error for a call whose time is over. */
export function timeIsOver(): Unavailable {
  return new Unavailable("authsvc has not answered in time (DEADLINE_EXCEEDED)", "DEADLINE_EXCEEDED");
}

/** Returns the error for a call of a client that is closed. */
export function closed(): Unavailable {
  return new Unavailable("the client was closed", "CANCELLED", "CLIENT_CLOSED");
}
