// What guards of HTTP and gRPC have in common: the verification of one request.

import type { AuthClient } from "./client.js";
import { identified } from "./identity.js";
import type { Identity } from "./identity.js";
import { presentedIn, typeOf } from "./presented.js";
import type { HeaderPairs } from "./question.js";
import { notFound } from "./verdict.js";
import type { CredentialType, Verdict } from "./verdict.js";

/** What is presented with a request. */
export interface Presented {
  readonly headers: HeaderPairs;
  readonly clientIp: string;
  /** The time that the caller has left, in milliseconds. */
  readonly leftMs?: number | undefined;
}

/** Verifies the credentials of requests. */
export class Guard {
  readonly #client: AuthClient;
  readonly #accept: ReadonlySet<CredentialType>;

  /** Throws TypeError if no type of credential is accepted. */
  constructor(client: AuthClient, accept: readonly CredentialType[] = ["KEY", "SESSION"]) {
    if (accept.length === 0 || accept.some((type) => type !== "KEY" && type !== "SESSION")) {
      throw new TypeError('accept has to be a list of "KEY" and "SESSION", with at least one of them');
    }
    this.#client = client;
    this.#accept = new Set(accept);
  }

  /** Returns the caller. Throws Refusal, and the errors of the client. */
  async identify(presented: Presented, scopes: readonly string[]): Promise<Identity> {
    const headers = [...presented.headers];
    const credential = presentedIn(headers);
    const type = typeOf(credential);
    if (!this.#accept.has(type)) {
      return identified(notFound(type), scopes);
    }
    return identified(await this.#ask(credential, type, { ...presented, headers }, scopes), scopes);
  }

  #ask(
    credential: string,
    type: CredentialType,
    presented: Presented,
    scopes: readonly string[],
  ): Promise<Verdict> {
    const { clientIp, headers, leftMs } = presented;
    const agent = agentIn(headers);
    const deadlineMs = Math.min(leftMs ?? Infinity, this.#client.deadlineMs);
    if (type === "KEY") {
      // Also that of gRPC libraries, which is the program here.
      return this.#client.verifyKey(credential, {
        requiredScopes: scopes,
        clientIp,
        userAgent: agent,
        deadlineMs,
      });
    }
    return this.#client.verifySession(credential, {
      requiredScopes: scopes,
      clientIp,
      // That of a gRPC library is the same on every device.
      userAgent: agent.includes("grpc-") ? "" : agent,
      headers,
      deadlineMs,
    });
  }
}

function agentIn(headers: HeaderPairs): string {
  for (const [name, value] of headers) {
    if (name.toLowerCase() === "user-agent") {
      return value;
    }
  }
  return "";
}
