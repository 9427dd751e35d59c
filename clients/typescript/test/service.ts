// A service that answers as a test says, in this process.

import http2 from "node:http2";
import type { AddressInfo } from "node:net";

import type { MessageInitShape } from "@bufbuild/protobuf";
import type { HandlerContext } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";

import type { VerifyKeyRequest, VerifyKeyResponseSchema } from "../src/gen/authsvc/v1/key_service_pb.js";
import { VerdictCode } from "../src/gen/authsvc/v1/resources_pb.js";
import { createClient, KeyService } from "../src/index.js";
import type { AuthClient, ClientOptions } from "../src/index.js";

export type Answer = MessageInitShape<typeof VerifyKeyResponseSchema>;
type Verify = (request: VerifyKeyRequest, context: HandlerContext) => Answer | Promise<Answer>;

export const GOOD: Answer = {
  valid: true,
  code: VerdictCode.VALID,
  keyId: "key_1",
  ownerId: "acme",
  scopes: ["a"],
};
export const KEY = "key-of-a-caller";

export interface Service extends AsyncDisposable {
  readonly address: string;
  readonly sessions: Set<http2.ServerHttp2Session>;
  /** Returns a client that the service knows how to stop with. */
  client(options?: Partial<ClientOptions>): AuthClient;
  stop(): Promise<void>;
}

/** Serves VerifyKey on loopback. */
export async function serving(verify: Verify = () => GOOD): Promise<Service> {
  const server = http2.createServer(
    connectNodeAdapter({ routes: (router) => router.rpc(KeyService.method.verifyKey, verify) }),
  );
  const sessions = new Set<http2.ServerHttp2Session>();
  server.on("session", (session) => {
    sessions.add(session);
    session.on("close", () => sessions.delete(session));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  const clients: AuthClient[] = [];
  const stop = async (): Promise<void> => {
    clients.forEach((client) => client.close());
    sessions.forEach((session) => session.destroy());
    await new Promise((resolve) => server.close(resolve));
  };
  return {
    address,
    sessions,
    client(options = {}) {
      const client = createClient({
        address,
        key: "own",
        tls: false,
        deadlineMs: 20_000,
        ...options,
      } as ClientOptions);
      clients.push(client);
      return client;
    },
    stop,
    [Symbol.asyncDispose]: stop,
  };
}
