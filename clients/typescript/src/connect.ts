// The interceptor for servers of Connect, which speak gRPC, gRPC-Web and Connect.

import type { IncomingMessage } from "node:http";
import type { Http2ServerRequest } from "node:http2";

import { createContextKey, createContextValues } from "@connectrpc/connect";
import type { ContextKey, ContextValues, HandlerContext, Interceptor } from "@connectrpc/connect";

import { Access } from "./access.js";
import type { ScopesByMethod } from "./access.js";
import type { AuthClient } from "./client.js";
import { Faults } from "./faults.js";
import type { Log } from "./faults.js";
import { Guard } from "./guard.js";
import type { Identity } from "./identity.js";
import type { HeaderPairs } from "./question.js";
import { methodNotListed } from "./refusal.js";
import { refusalError } from "./status.js";
import type { CredentialType } from "./verdict.js";

type NodeRequest = IncomingMessage | Http2ServerRequest;

/** What a guard requires of each call. */
export interface ConnectGuardOptions {
  /**
   * The scopes that all methods require (an empty list: any valid credential), or an object with
   * `package.Service/Method` or `package.Service/*`. With an object, methods that are not listed are refused.
   */
  scopes: ScopesByMethod;
  /** The methods, in the same form, that require no credential. */
  public?: readonly string[] | undefined;
  /** The accepted types of credentials; both by default. */
  accept?: readonly CredentialType[] | undefined;
  /**
   * Returns the user's address, by default that of the peer of the connection. Behind a proxy that is the
   * proxy.
   */
  clientAddress?: ((request: NodeRequest) => string) | undefined;
  /** Where failures are told; `console` by default. */
  log?: Log | undefined;
}

/** What `connectNodeAdapter` takes from a guard. */
export interface ConnectGuard {
  interceptors: Interceptor[];
  contextValues: (request: NodeRequest) => ContextValues;
}

interface Caller {
  readonly headers: readonly (readonly [string, string])[];
  readonly request: NodeRequest;
}

const CALLER: ContextKey<Caller | undefined> = createContextKey<Caller | undefined>(undefined);
const IDENTITY: ContextKey<Identity | undefined> = createContextKey<Identity | undefined>(undefined);

/**
 * Returns a guard that verifies the credential of each call before its handler starts.
 *
 *     const guard = connectGuard(client, { scopes: { "orders.v1.Orders/*": "orders:read" } });
 *     http2.createServer(connectNodeAdapter({ routes, ...guard }));
 *
 * Both parts of it are needed: without `contextValues`, every call is refused, because Connect does not show
 * whether a credential was sent twice. Put its interceptor before others. Everything that is not plainly good
 * is refused: with UNAUTHENTICATED, PERMISSION_DENIED, RESOURCE_EXHAUSTED, or UNAVAILABLE if the credential
 * cannot be verified at the moment. A stream is verified when it begins. Throws TypeError for options that
 * cannot be meant.
 */
export function connectGuard(client: AuthClient, options: ConnectGuardOptions): ConnectGuard {
  const access = new Access(options.scopes, options.public);
  const guard = new Guard(client, options.accept);
  const faults = new Faults(options.log);
  const { clientAddress = (request) => request.socket.remoteAddress ?? "" } = options;

  const interceptor: Interceptor = (next) => async (call) => {
    call.contextValues.delete(IDENTITY);
    const service = call.service.typeName;
    const rule = access.rule(service, call.method.name);
    if (rule?.isPublic) {
      return await next(call);
    }
    let identity: Identity;
    try {
      if (rule === undefined) {
        throw methodNotListed(`/${service}/${call.method.name}`);
      }
      const caller = call.contextValues.get(CALLER);
      if (caller === undefined) {
        throw new TypeError("pass the contextValues of the guard to connectNodeAdapter");
      }
      const { headers, request } = caller;
      const asked = { headers, clientIp: clientAddress(request), leftMs: timeoutIn(headers) };
      identity = await guard.identify(asked, rule.scopes);
    } catch (error) {
      const refusal = faults.refusal(`/${service}/${call.method.name}`, error);
      throw refusalError(
        refusal.code,
        refusal.message,
        refusal.reason,
        refusal.metadata,
        refusal.retryAfterMs,
      );
    }
    call.contextValues.set(IDENTITY, identity);
    return await next(call);
  };

  const contextValues = (request: NodeRequest): ContextValues => {
    const raw = request.rawHeaders;
    const headers = Array.from(
      { length: raw.length >> 1 },
      (_, n) => [raw[2 * n] ?? "", raw[2 * n + 1] ?? ""] as const,
    );
    return createContextValues().set(CALLER, { headers, request });
  };
  return { interceptors: [interceptor], contextValues };
}

/** Returns the caller of a call. Throws if there is none: the method is public, or has no guard. */
export function identityOfCall(context: Pick<HandlerContext, "values">): Identity {
  const identity = context.values.get(IDENTITY);
  if (identity === undefined) {
    throw new Error("no caller is authenticated: the method is public, or the server has no guard");
  }
  return identity;
}

const UNITS: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 1e-3, n: 1e-6 };

// Returns the milliseconds that the caller has given the call, if it has.
function timeoutIn(headers: HeaderPairs): number | undefined {
  for (const [name, value] of headers) {
    const text = name.toLowerCase() === "connect-timeout-ms" ? `${value}m` : value;
    const [, digits, unit = ""] = /^(\d{1,10})([HMSmun])$/.exec(text) ?? [];
    if (digits !== undefined && /^(?:grpc-timeout|connect-timeout-ms)$/i.test(name)) {
      return Number(digits) * (UNITS[unit] ?? 1);
    }
  }
  return undefined;
}
