// Connections that never open.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import http2 from "node:http2";
import net from "node:net";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { promisify } from "node:util";

import { createClient } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";

import { targetOf } from "../src/address.js";
import { Calls } from "../src/calls.js";
import { Connections } from "../src/connections.js";
import { KeyService } from "../src/index.js";
import { OwnKey } from "../src/own-key.js";
import { certified } from "./certificate.js";
import { GOOD, KEY } from "./service.js";

/** Accepts connections, and stays silent on the first ones; what others send goes to `port`. */
async function silent(
  first: number,
  port = 0,
): Promise<AsyncDisposable & { address: string; count: () => number }> {
  const sockets: net.Socket[] = [];
  const server = net.createServer((socket) => {
    sockets.push(socket.on("error", () => undefined));
    if (sockets.length > first) {
      const behind = net.connect(port, "127.0.0.1").on("error", () => undefined);
      sockets.push(behind);
      socket.pipe(behind).pipe(socket);
    } else {
      socket.resume();
    }
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    count: () => sockets.length,
    async [Symbol.asyncDispose]() {
      sockets.forEach((socket) => socket.destroy());
      await promisify(server.close.bind(server))();
    },
  };
}

test("A connection on which TLS does not begin is given up, and made anew.", async (t) => {
  const files = certified(t);
  if (files === undefined) {
    return;
  }
  const adapter = connectNodeAdapter({
    routes: (router) => router.rpc(KeyService.method.verifyKey, () => GOOD),
  });
  const server = http2.createSecureServer({ key: files.key, cert: files.cert }, adapter);
  await once(server.listen(0, "127.0.0.1"), "listening");
  t.after(() => server.close());
  await using front = await silent(4, (server.address() as AddressInfo).port);
  const tls = { ca: files.certificate, serverName: "authsvc.example" };
  const connections = new Connections(targetOf(front.address, tls, "", 50), 4);
  t.after(() => connections.close());
  const keys = createClient(KeyService, new Calls(connections, new OwnKey({ key: "own" }), 9));
  const { valid } = await keys.verifyKey({ keyString: KEY }, { timeoutMs: 20_000 });
  assert.equal(valid, true);
  assert.ok(front.count() > 4);
});

test("A connection that does not open keeps no process alive.", async () => {
  await using front = await silent(4);
  // The first of two addresses refuses, so that the second one is tried.
  const program = `
    import dns from "node:dns";
    import { syncBuiltinESMExports } from "node:module";
    import { targetOf } from ${url("address")};
    import { Calls } from ${url("calls")};
    import { Connections } from ${url("connections")};
    import { OwnKey } from ${url("own-key")};
    import { KeyService } from ${url("index")};
    dns.lookup = (host, options, callback) =>
      callback(null, ["127.0.0.9", "127.0.0.1"].map((address) => ({ address, family: 4 })));
    syncBuiltinESMExports();
    const address = "authsvc.example:${front.address.split(":")[1]}";
    const connections = new Connections(targetOf(address, {}, "", 2 ** 31 - 1), 4);
    const calls = new Calls(connections, new OwnKey({ key: "own" }), 1);
    await calls.unary(KeyService.method.verifyKey, undefined, 200, undefined, {}).catch((error) => {
      console.log(error.code);
    });`;
  const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "--eval", program], {
    timeout: 30_000,
  });
  assert.equal(stdout, "DEADLINE_EXCEEDED\n");
});

function url(module: string): string {
  return JSON.stringify(new URL(`../src/${module}.js`, import.meta.url));
}
