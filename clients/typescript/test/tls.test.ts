// TLS is the default, and the service has to show the right certificate.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import http2 from "node:http2";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { connectNodeAdapter } from "@connectrpc/connect-node";

import { createClient, KeyService, Unavailable } from "../src/index.js";
import type { Tls } from "../src/index.js";
import { GOOD, KEY } from "./service.js";

test("A client verifies the certificate of the service, and its name.", async (t) => {
  const directory = mkdtempSync(join(tmpdir(), "tls-"));
  const [certificate, privateKey] = [join(directory, "certificate.pem"), join(directory, "key.pem")];
  t.after(() => rmSync(directory, { recursive: true }));
  try {
    execFileSync(
      "openssl",
      ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
        .concat(["-subj", "/CN=authsvc.example", "-addext", "subjectAltName=DNS:authsvc.example"])
        .concat(["-keyout", privateKey, "-out", certificate]),
      { stdio: "pipe" },
    );
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") {
      t.skip("no openssl is installed");
      return;
    }
    throw error;
  }
  const adapter = connectNodeAdapter({
    routes: (router) => router.rpc(KeyService.method.verifyKey, () => GOOD),
  });
  const pair = { key: readFileSync(privateKey), cert: readFileSync(certificate) };
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
