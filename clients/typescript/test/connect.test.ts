// What the cases of ../vectors.json do not show of the guard for Connect.

import assert from "node:assert/strict";
import http2 from "node:http2";
import type { AddressInfo } from "node:net";
import { test } from "node:test";

import { Code, ConnectError, createClient } from "@connectrpc/connect";
import type { Interceptor } from "@connectrpc/connect";
import { connectNodeAdapter, createGrpcTransport } from "@connectrpc/connect-node";

import { Access } from "../src/access.js";
import { connectGuard, identityOf, KeyService } from "../src/index.js";
import type { ConnectGuard } from "../src/index.js";
import { KEY, serving } from "./service.js";

const QUIET = { warn: () => undefined, error: () => undefined };

/** Calls GetKey of a server with a guard; returns the owner that the handler saw. */
async function called(guard: Partial<ConnectGuard>): Promise<string> {
  let owner = "";
  const adapter = connectNodeAdapter({
    routes: (router) =>
      router.rpc(KeyService.method.getKey, (_, context) => {
        owner = identityOf(context).ownerId;
        return {};
      }),
    ...guard,
  });
  const server = http2.createServer(adapter);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const present: Interceptor = (next) => (request) => {
    request.header.set("authorization", `Bearer ${KEY}`);
    return next(request);
  };
  const baseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const transport = createGrpcTransport({ baseUrl, interceptors: [present], idleConnectionTimeoutMs: 1 });
  try {
    await createClient(KeyService, transport).getKey({});
    return owner;
  } finally {
    server.close();
  }
}

test("A handler gets the caller.", async () => {
  const service = await serving();
  assert.equal(await called(connectGuard(service.client(), { scopes: [] })), "acme");
  await service.stop();
});

test("A guard of which only the interceptor is used refuses every call.", async () => {
  const service = await serving();
  const { interceptors } = connectGuard(service.client(), { scopes: [], log: QUIET });
  await assert.rejects(
    called({ interceptors }),
    (error: unknown) => ConnectError.from(error).code === Code.Unavailable,
  );
  await service.stop();
});

test("A handler without a guard has no caller.", async () => {
  await assert.rejects(
    called({}),
    (error: unknown) => ConnectError.from(error).code !== Code.Unauthenticated,
  );
});

test("The rule of a method precedes that of its service, and that the default.", () => {
  const access = new Access({ "a.S/*": "x", "a.S/M": ["y", "z"] }, ["a.S/Open"]);
  assert.deepEqual(access.rule("a.S", "M")?.scopes, ["y", "z"]);
  assert.deepEqual(access.rule("a.S", "N")?.scopes, ["x"]);
  assert.equal(access.rule("a.S", "Open")?.isPublic, true);
  assert.equal(access.rule("a.T", "M"), undefined);
  assert.deepEqual(new Access([]).rule("a.T", "M")?.scopes, []);
});

test("Patterns that cannot be meant are refused.", () => {
  for (const pattern of ["a.S", "a.S/", "*", "a.S/M*", "/a/b/c", ""]) {
    assert.throws(() => new Access({ [pattern]: "x" }), /not a valid pattern/, pattern);
  }
  assert.throws(() => new Access({ "a.S/M": "x", "/a.S/M": "y" }), /listed twice/);
  assert.throws(() => new Access("orders:read" as never), /scopes takes a list/);
  assert.throws(() => new Access([], "a.S/M" as never), /list of patterns/);
});
