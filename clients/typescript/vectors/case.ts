// One case: its client, its steps, and what is compared.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { ClientError, createClient, Refused, Unavailable } from "../src/index.js";
import type { AuthClient, ClientOptions, Verdict } from "../src/index.js";
import { rpcResult } from "./rpc.js";
import { guardedCalls } from "./servers.js";
import type { GuardCall } from "./servers.js";

export type Fields = Record<string, unknown>;

interface Given {
  given: { service?: unknown };
  client?: Fields;
  steps: { call?: Fields; expect?: Fields; sent?: Fields; write_key_file?: string | null; do?: Fields }[];
}

/** Runs one case. */
export class Case {
  readonly #directory = mkdtempSync(join(tmpdir(), "vectors-"));
  readonly #keyFile = join(this.#directory, "key");

  /** Returns what is wrong, with all guards if the case has calls of guards. */
  static async run(name: string): Promise<string[]> {
    const first = await Case.#once(name, "grpc");
    if (first.problems.length > 0 || !first.hasGuards) {
      return first.problems;
    }
    return (await Case.#once(name, "http")).problems.map((problem) => `http: ${problem}`);
  }

  static async #once(
    name: string,
    kind: "grpc" | "http",
  ): Promise<{ problems: string[]; hasGuards: boolean }> {
    const given = (await control("begin", name)) as Given;
    const run = new Case();
    try {
      const problems = await run.#steps(name, given, kind);
      return { problems, hasGuards: given.steps.some(({ call }) => call?.["method"] === "guard") };
    } finally {
      rmSync(run.#directory, { recursive: true });
    }
  }

  async #steps(name: string, given: Given, kind: "grpc" | "http"): Promise<string[]> {
    const problems: string[] = [];
    const made = this.#client(given);
    try {
      for (const [n, step] of given.steps.entries()) {
        const at = `step ${n}`;
        if (step.write_key_file !== undefined) {
          this.#write(step.write_key_file);
        } else if (step.do !== undefined) {
          await control("do", name, n);
        } else if (step.call !== undefined && step.expect !== undefined) {
          const { call, expect } = step;
          if (call["method"] === "guard" && expect["admitted"] === false && expect[kind] === undefined) {
            continue;
          }
          if (kind === "http" && call["public"] === true) {
            // A public path is one that the middleware is not put before: there is nothing to check.
            console.log(`# SKIP ${name}: ${at} over HTTP: the middleware has no public paths`);
            continue;
          }
          const found = made instanceof Error ? failure(made) : await this.#result(made, call, kind);
          const wanted =
            call["method"] === "guard" && expect[kind] !== undefined
              ? { admitted: expect["admitted"], ...(expect[kind] as Fields) }
              : expect;
          problems.push(...differences(found, wanted).map((problem) => `${at}: ${problem}`));
          if (step.sent !== undefined) {
            const checked = (await control("check", name, n)) as { problems: string[] };
            problems.push(...checked.problems.map((problem) => `${at}: sent: ${problem}`));
          }
        }
      }
    } finally {
      if (!(made instanceof Error)) {
        made.close();
      }
    }
    return problems;
  }

  #client(given: Given): AuthClient | Error {
    const told = given.client ?? {};
    const real = given.given.service !== undefined;
    const options: ClientOptions = {
      address:
        (told["address"] as string | undefined) ?? environment(real ? "AUTHSVC_SERVICE" : "AUTHSVC_SCRIPTED"),
      tls: told["tls"] === true ? {} : false,
      attempts: told["attempts"] as number | undefined,
    };
    const deadline = told["deadline_seconds"] ?? 30;
    if (deadline !== "default") {
      options.deadlineMs = (deadline as number) * 1000;
    }
    if ("key_file" in told) {
      this.#write(told["key_file"] as string | null);
      options.keyFile = this.#keyFile;
    } else {
      options.key =
        "key" in told ? (told["key"] as string | null) : real ? environment("AUTHSVC_KEY") : "own";
    }
    try {
      return createClient(options);
    } catch (error) {
      return error as Error;
    }
  }

  #write(text: string | null): void {
    if (text === null) {
      rmSync(this.#keyFile, { force: true });
    } else {
      writeFileSync(this.#keyFile, text);
    }
  }

  async #result(client: AuthClient, call: Fields, kind: "grpc" | "http"): Promise<Fields> {
    const deadline = call["deadline_seconds"] as number | undefined;
    const options = {
      requiredScopes: call["required_scopes"] as string[] | undefined,
      anyOfScopes: call["any_of_scopes"] as string[] | undefined,
      clientIp: call["client_ip"] as string | undefined,
      userAgent: call["user_agent"] as string | undefined,
      deadlineMs: deadline === undefined ? undefined : deadline * 1000,
      cost: call["cost"] as number | undefined,
    };
    const credential = call["credential"] as string;
    try {
      switch (call["method"]) {
        case "verify_key":
          return shown(await client.verifyKey(credential, options));
        case "verify_session":
          return shown(await client.verifySession(credential, options));
        case "verify_token":
          return shown(await client.verifyToken(credential, call["audience"] as string, options));
        case "rpc":
          return { response: await rpcResult(client, call["rpc"] as string, call["request"] as Fields) };
        case "guard":
          return await guardedCalls[kind](client, call as unknown as GuardCall);
        default:
          return { error: `no such method: ${String(call["method"])}` };
      }
    } catch (error) {
      return failure(error);
    }
  }
}

function environment(name: string): string {
  const value = process.env[name];
  if (value === undefined) {
    throw new Error(`${name} is not set`);
  }
  return value;
}

async function control(action: string, name: string, step?: number): Promise<unknown> {
  const query = new URLSearchParams({ case: name, ...(step !== undefined && { step: String(step) }) });
  const answer = await fetch(`${environment("AUTHSVC_CONTROL")}/${action}?${query}`, { method: "POST" });
  const body: unknown = await answer.json();
  if (!answer.ok) {
    throw new Error(`${action}: ${JSON.stringify(body)}`);
  }
  return body;
}

function failure(error: unknown): Fields {
  if (error instanceof ClientError) {
    const retryAfterMs = error instanceof Unavailable ? error.retryAfterMs : undefined;
    return {
      error: error instanceof Refused ? "Refused" : "Unavailable",
      code: error.code,
      reason: error.reason,
      retry_after_seconds: retryAfterMs === undefined ? null : retryAfterMs / 1000,
    };
  }
  return { error: error instanceof TypeError ? "Invalid" : `${String(error)}` };
}

function shown(verdict: Verdict): Fields {
  return {
    valid: verdict.valid,
    code: verdict.code,
    type: verdict.type,
    credential_id: verdict.credentialId,
    owner_id: verdict.ownerId,
    scopes: verdict.scopes,
    expire_time: verdict.expireTime?.toISOString().replace(".000Z", "Z") ?? null,
    annotations: verdict.annotations,
    rate_limits: verdict.rateLimits.map((limit) => ({
      name: limit.name,
      limit: limit.limit,
      period_seconds: limit.periodSeconds,
      remaining: limit.remaining,
      reset_seconds: limit.resetSeconds,
      of_owner: limit.ofOwner,
    })),
    retry_after_seconds: verdict.retryAfterMs === undefined ? null : verdict.retryAfterMs / 1000,
    credits_remaining: verdict.creditsRemaining === undefined ? null : Number(verdict.creditsRemaining),
  };
}

function differences(found: Fields, wanted: Fields, path = ""): string[] {
  return Object.entries(wanted).flatMap(([name, value]) => {
    if (name === "retry_after_at_least_seconds") {
      const seconds = found["retry_after_seconds"];
      return typeof seconds === "number" && seconds >= (value as number)
        ? []
        : [`${name}: ${String(seconds)}`];
    }
    if (name === "response") {
      return differences((found[name] ?? {}) as Fields, value as Fields, "response.");
    }
    const [left, right] = [JSON.stringify(found[name]), JSON.stringify(value)];
    return left === right ? [] : [`${path}${name} is ${left}, not ${right} (${JSON.stringify(found)})`];
  });
}
