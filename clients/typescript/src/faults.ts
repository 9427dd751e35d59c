// Failures of a verification: each is logged, and becomes a refusal that does not tell its cause.

import { Refused, Unavailable } from "./errors.js";
import { Refusal, unavailable } from "./refusal.js";

/** Where failures are told. `console` is one. */
export interface Log {
  warn(message: string): void;
  error(message: string): void;
}

// The minimum time between two lines about one kind of problem, since in an outage every request has it.
const INTERVAL_MS = 1000;

/** Turns every error into a refusal, so that no failure lets a request through. */
export class Faults {
  readonly #log: Log;
  // When a kind of problem was last logged, and how often it has occurred since.
  readonly #logged = new Map<string, { at: number; more: number }>();

  constructor(log: Log = console) {
    this.#log = log;
  }

  /** Returns the refusal for an error; `request` names in the log what is refused. */
  refusal(request: string, error: unknown): Refusal {
    if (error instanceof Refusal) {
      return error;
    }
    if (error instanceof Unavailable) {
      this.#tell("warn", "Unavailable", request, error.message);
      return unavailable(error.retryAfterMs);
    }
    if (error instanceof Refused) {
      this.#tell("error", "Refused", request, `${error.message}; retrying does not help: fix the cause`);
    } else {
      // Without its message, which could contain the credential.
      const { name, stack = "" } = error instanceof Error ? error : new Error();
      this.#tell(
        "error",
        name,
        request,
        `${name}\n${stack
          .split("\n")
          .filter((line) => /^ {4}at /.test(line))
          .join("\n")}`,
      );
    }
    return unavailable(undefined);
  }

  #tell(level: keyof Log, kind: string, request: string, problem: string): void {
    const now = performance.now();
    const last = this.#logged.get(kind);
    if (last !== undefined && now - last.at < INTERVAL_MS) {
      last.more++;
      return;
    }
    const more = last?.more ? ` (${last.more} more since this was last logged)` : "";
    this.#logged.set(kind, { at: now, more: 0 });
    try {
      this.#log[level](`authsvc: ${request} cannot be authenticated${more}: ${problem}`);
    } catch {
      // A log that fails lets no request through.
    }
  }
}
