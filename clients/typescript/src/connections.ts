// The connections to authsvc. The workers of a replica share a port, and each connection leads to one of them
// for good, so there are several. A connection that missed a deadline is left alone for a while as long as
// others work.

import { fromBinary } from "@bufbuild/protobuf";
import type { Transport } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";

import type { Target } from "./address.js";
import { closed } from "./errors.js";
import { StatusSchema } from "./gen/google/rpc/status_pb.js";

// authsvc accepts a ping every five seconds.
const PINGS = {
  pingIntervalMs: 20_000,
  pingTimeoutMs: 5_000,
  pingIdleConnection: true,
  idleConnectionTimeoutMs: 2 ** 31 - 1,
};
// No answer of authsvc is larger; other gRPC libraries have the same limit.
const MAX_ANSWER_BYTES = 4 * 1024 * 1024;
const PAUSE_MS = 5000;
const RECONNECT_MS = 2000;
const DETAILS = "grpc-status-details-bin";

type StreamArguments = Parameters<Http2SessionManager["request"]>;

/** One connection, which is opened again when it is lost. */
export class Connection extends Http2SessionManager {
  readonly transport: Transport;
  #pausedUntil = 0;
  #triedAt = -Infinity;

  constructor(target: Target, turn: number) {
    super(target.baseUrl, PINGS, target.options(turn));
    this.transport = createGrpcTransport({
      baseUrl: target.baseUrl,
      sessionManager: this,
      readMaxBytes: MAX_ANSWER_BYTES,
      acceptCompression: [],
    });
  }

  /** Prefer other connections for a while, because a call on this one was not answered in time. */
  pause(): void {
    this.#pausedUntil = performance.now() + PAUSE_MS;
  }

  get isPaused(): boolean {
    return performance.now() < this.#pausedUntil;
  }

  /** Whether it is connected. If not, it starts to connect. */
  get isReady(): boolean {
    const state = this.state();
    if (state === "open" || state === "idle") {
      return true;
    }
    if ((state === "closed" || state === "error") && performance.now() - this.#triedAt > RECONNECT_MS) {
      this.#triedAt = performance.now();
      void this.connect();
    }
    return false;
  }

  /** Opens a stream. Details that cannot be read are dropped; otherwise they would replace the status. */
  override async request(...args: StreamArguments): ReturnType<Http2SessionManager["request"]> {
    const stream = await super.request(...args);
    const drop = (headers: Record<string, unknown>): void => {
      if (DETAILS in headers && !isReadable(headers[DETAILS])) {
        delete headers[DETAILS];
      }
    };
    return stream.on("response", drop).on("trailers", drop);
  }
}

/** Several connections to one target, used in turn. */
export class Connections {
  readonly #connections: readonly Connection[];
  #turn = 0;
  #isClosed = false;

  constructor(target: Target, number: number) {
    this.#connections = Array.from({ length: number }, (_, turn) => new Connection(target, turn));
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Returns the next one that is ready and not paused, or else is ready, or else the next one. */
  next(): Connection {
    if (this.#isClosed) {
      throw closed();
    }
    const all = this.#connections;
    const turns = all.map((_, ahead) => (this.#turn + 1 + ahead) % all.length);
    const ready = turns.filter((turn) => all[turn]?.isReady);
    this.#turn = ready.find((turn) => !all[turn]?.isPaused) ?? ready[0] ?? turns[0] ?? 0;
    return all[this.#turn] as Connection;
  }

  /** Closes the connections, and ends calls in flight. */
  close(): void {
    this.#isClosed = true;
    for (const connection of this.#connections) {
      connection.abort();
    }
  }
}

function isReadable(value: unknown): boolean {
  try {
    fromBinary(StatusSchema, Buffer.from(String(value), "base64"));
    return true;
  } catch {
    return false;
  }
}
