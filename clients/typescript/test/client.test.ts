// What the cases of ../vectors.json do not show of the client.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect } from "node:util";
import { test } from "node:test";

import { isSafeToRetry, pauseMs } from "../src/calls.js";
import { ClientError, createClient, KeyService, Refused, Unavailable } from "../src/index.js";
import { addressOf, hintsOf } from "../src/question.js";
import { GOOD, KEY, serving } from "./service.js";

const SECRET = "authsvc_live_secret";

test("A connection that is lost during a call is UNAVAILABLE, and retried on another one.", async () => {
  let calls = 0;
  const service = await serving(() => {
    calls += 1;
    if (calls === 1) {
      service.sessions.forEach((session) => session.destroy());
    }
    return GOOD;
  });
  const verdict = await service.client().verifyKey(KEY);
  assert.equal(verdict.valid, true);
  assert.equal(calls, 2);
  await service.stop();
});

test("When the service is gone, the answer is not known, long before the deadline.", async () => {
  const service = await serving();
  const client = service.client({ attempts: 2 });
  await client.verifyKey(KEY);
  const { address } = service;
  await service.stop();
  const another = createClient({ address, key: "own", tls: false, attempts: 2, deadlineMs: 20_000 });
  await assert.rejects(another.verifyKey(KEY), (error: unknown) => {
    assert.ok(error instanceof Unavailable);
    assert.equal(error.code, "UNAVAILABLE");
    return true;
  });
  another.close();
});

test("A client that was closed says so, also to calls that were waiting.", async () => {
  let asked = (): void => undefined;
  const waiting = new Promise<void>((resolve) => (asked = resolve));
  const service = await serving(
    (_, context) =>
      new Promise((_resolve, reject) => {
        context.signal.addEventListener("abort", () => reject(new Error("nobody waits")));
        asked();
      }),
  );
  const client = service.client();
  const call = client.verifyKey(KEY);
  const failed = assert.rejects(call, { name: "Unavailable", reason: "CLIENT_CLOSED" });
  await waiting;
  client.close();
  await failed;
  await assert.rejects(client.verifyKey(KEY), { name: "Unavailable", reason: "CLIENT_CLOSED" });
  await service.stop();
});

test("A call that its caller gives up throws the reason of that.", async () => {
  const caller = new AbortController();
  const service = await serving(
    (_, context) =>
      new Promise((_resolve, reject) => {
        context.signal.addEventListener("abort", () => reject(new Error("nobody waits")));
        caller.abort(new Error("the user left"));
      }),
  );
  await assert.rejects(service.client().verifyKey(KEY, { signal: caller.signal }), {
    message: "the user left",
  });
  await service.stop();
});

test("Calls are spread over several connections.", async () => {
  const service = await serving();
  const client = service.client({ connections: 3 });
  while (service.sessions.size < 3) {
    await client.verifyKey(KEY);
  }
  for (let n = 0; n < 9; n++) {
    await client.verifyKey(KEY);
  }
  assert.equal(service.sessions.size, 3);
  await service.stop();
});

test("The own key is in no text of the client, and in no error.", async () => {
  const client = createClient({ address: "127.0.0.1:1", key: SECRET, tls: false, attempts: 1 });
  const error: unknown = await client.verifyKey(`${SECRET}_of_a_caller`).catch((reason: unknown) => reason);
  assert.ok(error instanceof ClientError);
  for (const shown of [
    inspect(client, { depth: 9, showHidden: true }),
    JSON.stringify(client),
    inspect(error, { depth: 9 }),
  ]) {
    assert.ok(!shown.includes(SECRET), shown);
  }
  client.close();
});

test("What a function throws that returns the own key is not told: it could contain it.", async () => {
  const client = createClient({
    address: "127.0.0.1:1",
    tls: false,
    key: () => {
      throw new Error(`cannot decrypt ${SECRET}`);
    },
  });
  await assert.rejects(client.verifyKey(KEY), (error: unknown) => {
    assert.ok(error instanceof Refused);
    assert.equal(error.reason, "OWN_KEY_MISSING");
    assert.ok(!inspect(error).includes(SECRET));
    return true;
  });
  client.close();
});

test("A key file may have the byte order mark of each Unicode encoding.", async (t) => {
  const directory = mkdtempSync(join(tmpdir(), "key-"));
  t.after(() => rmSync(directory, { recursive: true }));
  const little = Buffer.from("\ufeffown\r\n", "utf16le");
  const big = Buffer.from(little).swap16();
  const service = await serving((_, context) => {
    assert.equal(context.requestHeader.get("authorization"), "Bearer own");
    return GOOD;
  });
  for (const content of [little, big, "\ufeffown\r\n"]) {
    const keyFile = join(directory, "authsvc.key");
    writeFileSync(keyFile, content);
    assert.equal((await service.client({ key: undefined, keyFile }).verifyKey(KEY)).valid, true);
  }
  await service.stop();
});

test("The time that the function takes that returns the own key is part of the deadline.", async (t) => {
  const { now } = performance;
  let spent = 0;
  t.mock.method(performance, "now", () => now.call(performance) + spent);
  const given: (number | undefined)[] = [];
  const service = await serving((_, context) => {
    given.push(context.timeoutMs());
    return GOOD;
  });
  const taking = (ms: number) => () => {
    spent += ms;
    return "own";
  };
  await service.client({ key: taking(15_000) }).verifyKey(KEY);
  assert.ok((given[0] ?? Infinity) <= 5_000, String(given));
  await assert.rejects(service.client({ key: taking(20_000) }).verifyKey(KEY), {
    name: "Unavailable",
    code: "DEADLINE_EXCEEDED",
  });
  assert.equal(given.length, 1);
  await service.stop();
});

test("A deadline may be longer than a timer of Node and a timeout of gRPC, or infinite.", async () => {
  const service = await serving();
  for (const deadlineMs of [1e8, 2 ** 31, Infinity]) {
    assert.equal((await service.client({ deadlineMs }).verifyKey(KEY)).valid, true);
    assert.equal((await service.client().verifyKey(KEY, { deadlineMs })).valid, true);
    const keys = service.client().service(KeyService);
    assert.equal((await keys.verifyKey({ keyString: KEY }, { timeoutMs: deadlineMs })).valid, true);
  }
  await service.stop();
});

test("Arguments that cannot be meant are refused by name.", () => {
  const good = { address: "localhost:1", key: "own", tls: false } as const;
  const bad: [object, RegExp][] = [
    [{ key: undefined }, /set either key or keyFile/],
    [{ keyFile: "x" }, /set either key or keyFile/],
    [{ key: "/run/secrets/key" }, /looks like a path/],
    [{ address: "localhost" }, /address/],
    [{ address: "http://localhost:1" }, /address/],
    [{ address: "localhost:1/x" }, /address/],
    [{ address: "127.0.0.1.example:1" }, /plain text/],
    [{ address: "unix:/run/authsvc.sock", tls: {} }, /Unix socket/],
    [{ insecure: "yes" }, /plaintext-beyond-loopback/],
    [{ tls: { certificate: "x" } }, /belong together/],
    [{ deadlineMs: 0 }, /positive/],
    [{ deadlineMs: NaN }, /positive/],
    [{ attempts: 1.5 }, /positive/],
  ];
  for (const [options, message] of bad) {
    assert.throws(
      () => createClient({ ...good, ...options } as never),
      { name: "TypeError", message },
      String(message),
    );
  }
  createClient({ ...good, address: "authsvc.example:1", insecure: "plaintext-beyond-loopback" }).close();
});

test("Pauses are 25 to 50 ms, then twice as long each, and a second at most.", () => {
  assert.deepEqual(
    [1, 2, 3].map((n) => pauseMs(n, () => 0)),
    [25, 50, 100],
  );
  assert.deepEqual(
    [1, 2, 3, 9, 5000].map((n) => pauseMs(n, () => 1)),
    [50, 100, 200, 1000, 1000],
  );
});

test("Only calls are retried that change nothing twice.", () => {
  const of = (method: string, request: object = {}): boolean => isSafeToRetry(method, request);
  assert.ok(
    ["GetKey", "ListKeys", "LookupKey", "PreviewRevocation", "VerifyKey", "RevokeSession"].every((name) =>
      of(name),
    ),
  );
  assert.ok(
    !["CreateKey", "RotateKey", "UpdateKey", "DeleteKey", "BatchRevokeKeys", "RevokeAllSessions"].some(
      (name) => of(name),
    ),
  );
  assert.ok(of("CreateKey", { requestId: "once" }) && !of("CreateKey", { requestId: "" }));
});

test("Any RPC can be called, with the errors of this package.", async () => {
  const service = await serving();
  const keys = service.client().service(KeyService);
  assert.equal((await keys.verifyKey({ keyString: KEY })).keyId, "key_1");
  await assert.rejects(keys.getKey({ keyId: "key_1" }), { name: "Refused", code: "UNIMPLEMENTED" });
  await service.stop();
});

test("Addresses lose brackets, port and zone.", () => {
  const read = [
    "192.0.2.7",
    "192.0.2.7:80",
    "[2001:DB8::1]:443",
    "fe80::1%eth0",
    "::ffff:192.0.2.7",
    "x",
    "",
    "[::1",
  ];
  const shown = ["192.0.2.7", "192.0.2.7", "2001:db8::1", "fe80::1", "192.0.2.7", "", "", ""];
  assert.deepEqual(read.map(addressOf), shown);
});

test("Client hints are taken from headers, whatever the case of their names.", () => {
  assert.deepEqual(
    hintsOf([
      ["Sec-CH-UA-Platform", '"Windows"'],
      ["x", "y"],
    ]),
    { platform: '"Windows"' },
  );
  assert.equal(hintsOf([["x", "y"]]), undefined);
});
