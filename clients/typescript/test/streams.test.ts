// The guard for Connect before a stream.

import assert from "node:assert/strict";
import { once } from "node:events";
import http2 from "node:http2";
import type { AddressInfo } from "node:net";
import { test } from "node:test";

import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { connectNodeAdapter, createGrpcTransport } from "@connectrpc/connect-node";

import { HolderService } from "../src/gen/authsvc/v1/holder_service_pb.js";
import { VerdictCode } from "../src/gen/authsvc/v1/resources_pb.js";
import { connectGuard, identityOf } from "../src/index.js";
import { GOOD, KEY, serving } from "./service.js";
import type { Answer } from "./service.js";

/** Opens a stream in both directions; returns how it ended, and what the handler got. */
async function followed(
  answer: Answer,
  headers: Record<string, string>,
): Promise<{ code: Code | undefined; got: string[] }> {
  const service = await serving(() => answer);
  const got: string[] = [];
  const guard = connectGuard(service.client(), { scopes: ["a"] });
  const adapter = connectNodeAdapter({
    routes: (router) =>
      router.rpc(HolderService.method.follow, (requests, context) => {
        // Not a generator, which would start only when it is read.
        got.push("called");
        return (async function* () {
          got.push(identityOf(context).ownerId);
          for await (const _ of requests) {
            got.push("message");
            yield {};
          }
        })();
      }),
    ...guard,
  });
  const server = http2.createServer(adapter);
  await once(server.listen(0, "127.0.0.1"), "listening");
  const baseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const holders = createClient(HolderService, createGrpcTransport({ baseUrl, idleConnectionTimeoutMs: 1 }));
  let code: Code | undefined;
  try {
    const messages = (async function* () {
      yield {};
    })();
    for await (const _ of holders.follow(messages, { headers })) {
      got.push("answered");
    }
  } catch (error) {
    code = ConnectError.from(error).code;
  }
  server.close();
  await service.stop();
  return { code, got };
}

const SENT = { authorization: `Bearer ${KEY}` };

test("The handler of a stream gets the caller and the messages.", async () => {
  assert.deepEqual(await followed(GOOD, SENT), {
    code: undefined,
    got: ["called", "acme", "message", "answered"],
  });
});

test("A stream without a credential, or whose verdict is bad or unknown, does not reach its handler.", async () => {
  const refused = { code: Code.Unauthenticated, got: [] };
  assert.deepEqual(await followed(GOOD, {}), refused);
  assert.deepEqual(await followed({ code: VerdictCode.NOT_FOUND }, SENT), refused);
  assert.deepEqual(await followed({ ...GOOD, code: 999 as VerdictCode }, SENT), refused);
});
