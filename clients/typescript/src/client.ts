// The client.

import type { DescService } from "@bufbuild/protobuf";
import { createClient as createConnectClient } from "@connectrpc/connect";
import type { Client as ConnectClient } from "@connectrpc/connect";

import { targetOf } from "./address.js";
import type { Tls } from "./address.js";
import { Calls } from "./calls.js";
import { Connections } from "./connections.js";
import { KeyService } from "./gen/authsvc/v1/key_service_pb.js";
import { SessionService } from "./gen/authsvc/v1/session_service_pb.js";
import { OwnKey } from "./own-key.js";
import type { KeySource } from "./own-key.js";
import { addressOf, agentOf, hintsOf, scopesOf } from "./question.js";
import type { HeaderPairs } from "./question.js";
import { notFound, verdictOf } from "./verdict.js";
import type { Verdict } from "./verdict.js";

// Key strings and session tokens are much shorter than this. Longer texts are not sent.
const MAX_CREDENTIAL_LENGTH = 1024;
const MAX_TOKEN_LENGTH = 8192;

/** How a client is made. Set `address`, and one of `key` and `keyFile`. */
export interface ClientOptions extends KeySource {
  /** `host:port`, or `unix:` and the path of a socket. */
  address: string;
  /**
   * By default, the authorities that come with Node. `false` is plain text, which is for this machine only.
   */
  tls?: Tls | false | undefined;
  /** Plain text to other machines as well, where a lower layer encrypts. */
  insecure?: "plaintext-beyond-loopback" | undefined;
  /** The time for a verification with all its attempts, in milliseconds; 1000 by default. */
  deadlineMs?: number | undefined;
  /** 5 by default. Only UNAVAILABLE is retried, on another connection. */
  attempts?: number | undefined;
  /** 4 by default. Use at least as many as a replica has workers. */
  connections?: number | undefined;
}

/** What a verification asks for. */
export interface VerifyOptions {
  /** The credential must have all of these. */
  requiredScopes?: string | readonly string[] | undefined;
  /** It must have one of these, unless there are none. */
  anyOfScopes?: string | readonly string[] | undefined;
  /** The address of whoever presents the credential. A value that is not an address is ignored. */
  clientIp?: string | undefined;
  /** The user agent of whoever presents the credential. */
  userAgent?: string | undefined;
  /** Replaces that of the client. */
  deadlineMs?: number | undefined;
  /** Ends the call early; it then throws the reason of the signal. */
  signal?: AbortSignal | undefined;
}

/** For keys and tokens. */
export interface VerifyKeyOptions extends VerifyOptions {
  /** What is taken from the rate limits and credits of the key; 1 by default. */
  cost?: number | undefined;
}

/** For sessions. */
export interface VerifySessionOptions extends VerifyOptions {
  /** The headers of the user's request, of which only the client hints (`sec-ch-ua-…`) are used. */
  headers?: HeaderPairs | undefined;
}

/**
 * Verifies credentials with authsvc. One client is enough for a process. It connects at its first call.
 *
 * A bad credential is an answer. What is thrown is `Unavailable` if the answer is not known at the moment,
 * `Refused` if authsvc refuses the client itself or its request, and TypeError for arguments that cannot be
 * meant.
 */
export class AuthClient {
  /** The time for a verification, in milliseconds. */
  readonly deadlineMs: number;
  readonly #connections: Connections;
  readonly #calls: Calls;
  readonly #keys: ConnectClient<typeof KeyService>;
  readonly #sessions: ConnectClient<typeof SessionService>;

  constructor(options: ClientOptions) {
    const { deadlineMs = 1000, attempts = 5, connections = 4, tls = {}, insecure = "" } = options;
    if (!(deadlineMs > 0) || !isPositive(attempts) || !isPositive(connections)) {
      throw new TypeError("deadlineMs, attempts and connections must be positive");
    }
    const ownKey = new OwnKey(options);
    this.deadlineMs = deadlineMs;
    this.#connections = new Connections(targetOf(options.address, tls, insecure), connections);
    this.#calls = new Calls(this.#connections, ownKey, attempts);
    this.#keys = this.service(KeyService);
    this.#sessions = this.service(SessionService);
  }

  /** Returns the verdict on a presented key string. A VALID verdict counts as a use. */
  async verifyKey(keyString: string, options: VerifyKeyOptions = {}): Promise<Verdict> {
    const [request, call] = this.#asked(options);
    const presented = keyString.trim();
    if (isMalformed(presented, MAX_CREDENTIAL_LENGTH)) {
      return notFound("KEY");
    }
    const cost = options.cost === undefined ? {} : { cost: options.cost };
    const answer = await this.#keys.verifyKey({ ...request, keyString: presented, ...cost }, call);
    return verdictOf(answer, "KEY", answer.keyId, request.anyOfScopes);
  }

  /** Returns the verdict on a presented session token. A VALID verdict counts as activity. */
  async verifySession(sessionToken: string, options: VerifySessionOptions = {}): Promise<Verdict> {
    const [request, call] = this.#asked(options);
    const presented = sessionToken.trim();
    if (isMalformed(presented, MAX_CREDENTIAL_LENGTH)) {
      return notFound("SESSION");
    }
    const hints = hintsOf(options.headers ?? []);
    const clientHints = hints === undefined ? {} : { clientHints: hints };
    const answer = await this.#sessions.verifySession(
      { ...request, sessionToken: presented, ...clientHints },
      call,
    );
    return verdictOf(answer, "SESSION", answer.sessionId, request.anyOfScopes);
  }

  /**
   * Returns the verdict on a presented token of DeriveToken. `audience` is the name of this service, which
   * the token has to be for. The verdict is about the key or session that the token was derived from; its
   * scopes are those of the token.
   */
  async verifyToken(token: string, audience: string, options: VerifyKeyOptions = {}): Promise<Verdict> {
    const [{ userAgent: _, ...request }, call] = this.#asked(options);
    const presented = token.trim();
    if (isMalformed(presented, MAX_TOKEN_LENGTH)) {
      return notFound("KEY");
    }
    const cost = options.cost === undefined ? {} : { cost: options.cost };
    const answer = await this.#keys.verifyToken({ ...request, token: presented, audience, ...cost }, call);
    const type = answer.sessionId === "" ? "KEY" : "SESSION";
    return verdictOf(answer, type, answer.keyId || answer.sessionId, request.anyOfScopes);
  }

  /**
   * Returns a client of Connect for a service of authsvc, with this client's key:
   * `client.service(KeyService)`. A call has a deadline of 60 s, if it gives no `timeoutMs`, because a change
   * waits until all workers know of it. Calls are retried if they only read, revoke one key or session, or
   * have a `requestId`. They throw `Unavailable` and `Refused`.
   */
  service<T extends DescService>(service: T): ConnectClient<T> {
    return createConnectClient(service, this.#calls);
  }

  /** Closes the connections. Calls in flight end with `Unavailable`. */
  close(): void {
    this.#connections.close();
  }

  #asked(options: VerifyOptions) {
    const { deadlineMs = this.deadlineMs, signal } = options;
    const request = {
      requiredScopes: scopesOf(options.requiredScopes),
      anyOfScopes: scopesOf(options.anyOfScopes),
      clientIp: addressOf(options.clientIp ?? ""),
      userAgent: agentOf(options.userAgent ?? ""),
    };
    return [request, { timeoutMs: deadlineMs, ...(signal && { signal }) }] as const;
  }
}

/** Returns a new client. Throws TypeError for arguments that cannot be meant. */
export function createClient(options: ClientOptions): AuthClient {
  return new AuthClient(options);
}

function isPositive(number: number): boolean {
  return Number.isInteger(number) && number > 0;
}

// Such a text cannot be a credential of authsvc, and perhaps cannot even be sent.
function isMalformed(presented: string, maxLength: number): boolean {
  // eslint-disable-next-line no-control-regex
  return presented === "" || presented.length > maxLength || !/^[\x00-\x7f]*$/.test(presented);
}
