/**
 * The client of authsvc for TypeScript and JavaScript.
 *
 *     const client = createClient({ address: "authsvc:50051", keyFile: "/run/secrets/authsvc.key" });
 *     const verdict = await client.verifyKey(presented, { requiredScopes: ["orders:read"] });
 *     app.get("/orders", authenticated(client, { scopes: "orders:read" }), handler);
 *
 * A verdict is about the call that asked for it: nothing is cached, so a key that RevokeKey has revoked is
 * accepted by no call that is sent afterwards.
 */

import type { IncomingMessage } from "node:http";

import type { HandlerContext } from "@connectrpc/connect";

import { identityOfCall } from "./connect.js";
import { identityOfRequest } from "./http.js";
import type { Identity } from "./identity.js";

export type { ScopesByMethod } from "./access.js";
export type { Tls } from "./address.js";
export { AuthClient, createClient } from "./client.js";
export type { ClientOptions, VerifyKeyOptions, VerifyOptions, VerifySessionOptions } from "./client.js";
export { connectGuard } from "./connect.js";
export type { ConnectGuard, ConnectGuardOptions } from "./connect.js";
export { ClientError, Refused, Unavailable } from "./errors.js";
export type { StatusCode } from "./errors.js";
export type { Log } from "./faults.js";
export { AuditService } from "./gen/authsvc/v1/audit_service_pb.js";
export { KeyService } from "./gen/authsvc/v1/key_service_pb.js";
export { OwnerPolicyService } from "./gen/authsvc/v1/owner_policy_service_pb.js";
export { ScopeService } from "./gen/authsvc/v1/scope_service_pb.js";
export { SessionService } from "./gen/authsvc/v1/session_service_pb.js";
export { WebhookService } from "./gen/authsvc/v1/webhook_service_pb.js";
export { authenticated } from "./http.js";
export type { HttpGuardOptions, Middleware } from "./http.js";
export type { Identity } from "./identity.js";
export type { KeySource } from "./own-key.js";
export type { HeaderPairs } from "./question.js";
export type { CredentialType, RateLimit, Verdict, VerdictCode } from "./verdict.js";

/** Returns the caller of a request of HTTP, or of a call of Connect. Throws if no guard has admitted it. */
export function identityOf(of: IncomingMessage | Pick<HandlerContext, "values">): Identity {
  return "values" in of ? identityOfCall(of) : identityOfRequest(of);
}
