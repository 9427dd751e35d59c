// The middleware for servers of HTTP: Express, Connect, Fastify, and node:http.

import type { IncomingMessage, ServerResponse } from "node:http";

import type { AuthClient } from "./client.js";
import { Faults } from "./faults.js";
import type { Log } from "./faults.js";
import { Guard } from "./guard.js";
import type { Identity } from "./identity.js";
import { problemOf } from "./problem.js";
import { scopesOf } from "./question.js";
import type { CredentialType } from "./verdict.js";

/** What a middleware requires of each request. */
export interface HttpGuardOptions {
  /** The scopes that the credential must have. An empty list accepts every valid credential. */
  scopes: string | readonly string[];
  /** The accepted types of credentials; both by default. */
  accept?: readonly CredentialType[] | undefined;
  /**
   * Returns the user's address, by default that of the peer of the connection. Behind a proxy that is the
   * proxy: read the address where your proxy puts it, or return "".
   */
  clientAddress?: ((request: IncomingMessage) => string) | undefined;
  /** Lets the application see the credential. Otherwise it is removed from the headers. */
  keepCredential?: boolean | undefined;
  /** Where failures are told; `console` by default. */
  log?: Log | undefined;
}

/** A middleware. `next` is called without an argument, and only for a request with a valid credential. */
export type Middleware = (request: IncomingMessage, response: ServerResponse, next: () => void) => void;

const CREDENTIAL_HEADERS = ["authorization", "x-api-key"];
// What a gateway tells its upstream. Nobody has told us, so what a client sends in them is removed.
const IDENTITY_HEADERS = [
  "x-auth-key-id",
  "x-auth-session-id",
  "x-auth-owner-id",
  "x-auth-scopes",
  "x-auth-credential-type",
];
const identities = new WeakMap<IncomingMessage, Identity>();

/**
 * Returns a middleware that verifies the credential of each request before the next handler is called.
 *
 *     app.get("/orders", authenticated(client, { scopes: "orders:read" }), (req, res) => {
 *       res.json({ ordersOf: identityOf(req).ownerId });
 *     });
 *
 * Everything that is not plainly good is refused: with 401, 403, 429, or, if the credential cannot be
 * verified at the moment, with 503. The cause of that is in the log only. Throws TypeError for options that
 * cannot be meant.
 */
export function authenticated(client: AuthClient, options: HttpGuardOptions): Middleware {
  const guard = new Guard(client, options.accept);
  const scopes = scopesOf(required(options.scopes));
  const faults = new Faults(options.log);
  const { clientAddress = (request) => request.socket.remoteAddress ?? "" } = options;
  const hidden = options.keepCredential ? IDENTITY_HEADERS : [...IDENTITY_HEADERS, ...CREDENTIAL_HEADERS];

  return (request, response, next) => {
    void (async () => {
      let identity: Identity;
      try {
        const headers = headersOf(request);
        identity = await guard.identify({ headers, clientIp: clientAddress(request) }, scopes);
        hide(request, hidden);
      } catch (error) {
        refuse(request, response, problemOf(faults.refusal("a request", error)));
        return;
      }
      identities.set(request, identity);
      // Outside of this promise, so that an error of the application is an error of the application.
      process.nextTick(next);
    })();
  };
}

/** Returns the caller of a request. Throws if `authenticated` has not admitted the request. */
export function identityOfRequest(request: IncomingMessage): Identity {
  const identity = identities.get(request);
  if (identity === undefined) {
    throw new Error("no caller is authenticated: put the middleware `authenticated` before this handler");
  }
  return identity;
}

function required(scopes: string | readonly string[] | undefined): string | readonly string[] {
  if (scopes === undefined) {
    throw new TypeError("scopes is missing; use [] to accept every valid credential");
  }
  return scopes;
}

// Node keeps only the first one of some headers in `headers`, so the second of two credentials is not there.
function headersOf(request: IncomingMessage): [string, string][] {
  const raw = request.rawHeaders;
  return Array.from({ length: raw.length >> 1 }, (_, n) => [raw[2 * n] ?? "", raw[2 * n + 1] ?? ""]);
}

function hide(request: IncomingMessage, names: readonly string[]): void {
  const raw = headersOf(request).filter(([name]) => !names.includes(name.toLowerCase().replaceAll("_", "-")));
  // Node makes both of rawHeaders when they are first read, so before that is changed. HTTP/2 has only one.
  for (const headers of [request.headers, request.headersDistinct ?? {}]) {
    for (const name of Object.keys(headers)) {
      if (names.includes(name.replaceAll("_", "-"))) {
        delete headers[name];
      }
    }
  }
  request.rawHeaders.splice(0, Infinity, ...raw.flat());
}

function refuse(
  request: IncomingMessage,
  response: ServerResponse,
  problem: ReturnType<typeof problemOf>,
): void {
  if (response.headersSent || response.destroyed) {
    return;
  }
  response.writeHead(problem.status, problem.headers);
  response.end(request.method === "HEAD" ? undefined : problem.body);
}
