// Reads and writes the details of a gRPC status (AIP-193) with the errors of Connect.

import { create } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { ConnectError } from "@connectrpc/connect";

import { codeName, codeNumber, errorOf } from "./errors.js";
import type { Refused, StatusCode, Unavailable } from "./errors.js";
import { ErrorInfoSchema, RetryInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import { milliseconds } from "./verdict.js";

const DOMAIN = "authsvc";
const NOT_THE_SERVICE = new Set<StatusCode>([
  "UNAUTHENTICATED",
  "PERMISSION_DENIED",
  "INVALID_ARGUMENT",
  "FAILED_PRECONDITION",
  "NOT_FOUND",
]);

/** Returns the error for what a call has thrown. */
export function errorFrom(thrown: unknown): Unavailable | Refused {
  const error = ConnectError.from(thrown);
  const code = codeName(error.code);
  if (error.metadata.has("grpc-status")) {
    return errorOf(code, error.rawMessage, reasonOf(error), retryAfterOf(error));
  }
  // The service has not said this. A connection that was lost is UNAVAILABLE, as in all gRPC libraries; and
  // what this library says of a response that it cannot read is no refusal.
  if (code !== "DEADLINE_EXCEEDED" && (code === "CANCELLED" || isOfConnection(error))) {
    return errorOf("UNAVAILABLE", `no connection: ${error.rawMessage}`);
  }
  return errorOf(NOT_THE_SERVICE.has(code) ? "INTERNAL" : code, error.rawMessage);
}

/** Returns the error that a server of Connect answers with. */
export function refusalError(
  code: StatusCode,
  message: string,
  reason: string,
  metadata: Record<string, string>,
  retryAfterMs: number | undefined,
): ConnectError {
  const error = new ConnectError(message, codeNumber(code));
  error.details.push({
    desc: ErrorInfoSchema,
    value: create(ErrorInfoSchema, { reason, domain: DOMAIN, metadata }),
  });
  if (retryAfterMs !== undefined) {
    const retryDelay = durationFromMs(Math.round(retryAfterMs));
    error.details.push({ desc: RetryInfoSchema, value: create(RetryInfoSchema, { retryDelay }) });
  }
  return error;
}

function reasonOf(error: ConnectError): string {
  return error.findDetails(ErrorInfoSchema).find((info) => info.domain === DOMAIN)?.reason ?? "";
}

function retryAfterOf(error: ConnectError): number | undefined {
  const delay = error.findDetails(RetryInfoSchema)[0]?.retryDelay;
  return delay && milliseconds(delay);
}

// Errors of Node's sockets and streams have a code, as in ECONNREFUSED and ERR_HTTP2_STREAM_ERROR.
function isOfConnection(error: ConnectError): boolean {
  for (
    let cause: unknown = error.cause, depth = 0;
    cause instanceof Error && depth < 8;
    depth++, cause = cause.cause
  ) {
    if (typeof (cause as NodeJS.ErrnoException).code === "string") {
      return true;
    }
  }
  return false;
}
