// TLS is the default, and the service has to show the right certificate.

import assert from "node:assert/strict";
import http2 from "node:http2";
import type { AddressInfo } from "node:net";
import { test } from "node:test";

import { connectNodeAdapter } from "@connectrpc/connect-node";

import { createClient, KeyService, Unavailable } from "../src/index.js";
import type { Tls } from "../src/index.js";
import { certified } from "./certificate.js";
import { GOOD, KEY } from "./service.js";

test("A client verifies the certificate of the service, and its name.", async (t) => {
  const files = certified(t);
  if (files === undefined) {
    return;
  }
  const adapter = connectNodeAdapter({
    routes: (router) => router.rpc(KeyService.method.verifyKey, () => GOOD),
  });
  const { certificate, ...pair } = files;
  const server = http2.createSecureServer(pair, adapter);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => server.close());
  const address = `127.0.0.1:${(server.address() as AddressInfo).port}`;

  const verified = async (tls?: Tls): Promise<boolean> => {
    const client = createClient({ address, key: "own", tls, attempts: 1, deadlineMs: 20_000 });
    try {
      return (await client.verifyKey(KEY)).valid;
    } finally {
      client.close();
    }
  };
  const named = { ca: certificate, serverName: "authsvc.example" };
  assert.equal(await verified(named), true);
  for (const tls of [undefined, { ca: certificate }, { serverName: "authsvc.example" }]) {
    await assert.rejects(verified(tls), Unavailable);
  }
  await assert.rejects(verified({ ...named, serverName: "another.example" }), Unavailable);
});
