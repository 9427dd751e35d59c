// Calls of authsvc: with the client's own key, within a deadline, and retried where that is safe.

import { setTimeout as sleep } from "node:timers/promises";

import type { DescMessage, DescMethodUnary, MessageInitShape } from "@bufbuild/protobuf";
import type { ContextValues, StreamResponse, Transport, UnaryResponse } from "@connectrpc/connect";

import type { Connections } from "./connections.js";
import { closed, timeIsOver } from "./errors.js";
import type { OwnKey } from "./own-key.js";
import { errorFrom } from "./status.js";

type HeadersInit = ConstructorParameters<typeof Headers>[0];

// How long a call may take that is no verification. A change may wait for the lease of a worker that is cut
// off.
const RPC_DEADLINE_MS = 60_000;
// gRPC writes a timeout with eight digits, and a longer timer of Node than 31 bits of milliseconds ends at once.
const MAX_TIMEOUT_MS = 99_999_999;
// A worker that does not answer within this time may be hanging. Missing a shorter deadline proves nothing.
const HANGING_AFTER_MS = 100;
const FIRST_WAIT_MS = 50;
const MAX_WAIT_MS = 1000;
const READS = /^(?:Get|List|Lookup|Preview|Verify|BatchVerify)/;
const REVOKES_ONE = new Set(["RevokeKey", "RevokeSession"]);

/** The transport of all calls. It throws `Unavailable` and `Refused`. */
export class Calls implements Transport {
  readonly #connections: Connections;
  readonly #ownKey: OwnKey;
  readonly #attempts: number;

  constructor(connections: Connections, ownKey: OwnKey, attempts: number) {
    this.#connections = connections;
    this.#ownKey = ownKey;
    this.#attempts = attempts;
  }

  /**
   * Calls until there is an answer, no attempts are left, or the deadline would pass. Only UNAVAILABLE is
   * retried, almost at once, since another worker may be able to answer. RESOURCE_EXHAUSTED is not: an
   * overloaded service needs fewer calls.
   */
  async unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    signal: AbortSignal | undefined,
    timeoutMs: number | undefined,
    header: HeadersInit | undefined,
    input: MessageInitShape<I>,
    contextValues?: ContextValues,
  ): Promise<UnaryResponse<I, O>> {
    const ends = performance.now() + (timeoutMs ?? RPC_DEADLINE_MS);
    const attempts = isSafeToRetry(method.name, input) ? this.#attempts : 1;
    for (let attempt = 1; ; attempt++) {
      const connection = this.#connections.next();
      const headers = this.#headers(header);
      // The function that returns the own key can have taken time.
      const left = ends - performance.now();
      if (left <= 0) {
        throw timeIsOver();
      }
      try {
        const whole = Math.min(Math.ceil(left), MAX_TIMEOUT_MS);
        return await connection.transport.unary(method, signal, whole, headers, input, contextValues);
      } catch (thrown) {
        signal?.throwIfAborted();
        const error = this.#connections.isClosed ? closed() : errorFrom(thrown);
        if (error.code === "DEADLINE_EXCEEDED" && left > HANGING_AFTER_MS) {
          connection.pause();
        }
        const pause = pauseMs(attempt);
        if (error.code !== "UNAVAILABLE" || attempt >= attempts || performance.now() + pause >= ends) {
          throw error;
        }
        await sleep(pause, undefined, signal && { signal });
      }
    }
  }

  /** Refuses streams, which only clients need that verify in their own process. */
  stream<I extends DescMessage, O extends DescMessage>(): Promise<StreamResponse<I, O>> {
    return Promise.reject(
      new TypeError("this client has no streams; HolderService is for the Python client"),
    );
  }

  #headers(given: HeadersInit | undefined): Headers {
    const headers = new Headers(given);
    const own = this.#ownKey.header();
    if (own !== "") {
      headers.set("authorization", own);
    }
    return headers;
  }
}

/** Returns how long to wait after attempt 1, 2, …: exponential backoff with jitter. */
export function pauseMs(attempt: number, spread: () => number = Math.random): number {
  return Math.min(MAX_WAIT_MS, FIRST_WAIT_MS * 2 ** Math.min(attempt - 1, 16)) * (0.5 + 0.5 * spread());
}

/** Returns whether a second call changes nothing that the first one has not changed. */
export function isSafeToRetry(method: string, input: object): boolean {
  const { requestId } = input as { requestId?: string };
  return READS.test(method) || REVOKES_ONE.has(method) || (requestId !== undefined && requestId !== "");
}
