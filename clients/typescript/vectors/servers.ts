// Servers with a guard and a handler, and calls of them.

import http from "node:http";
import http2 from "node:http2";
import type { AddressInfo } from "node:net";

import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { AnySchema, anyUnpack } from "@bufbuild/protobuf/wkt";
import type { Any } from "@bufbuild/protobuf/wkt";
import { connectNodeAdapter } from "@connectrpc/connect-node";

import { ErrorInfoSchema, RetryInfoSchema } from "../src/gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "../src/gen/google/rpc/status_pb.js";
import { codeName } from "../src/errors.js";
import { GetKeyRequestSchema } from "../src/gen/authsvc/v1/key_service_pb.js";
import { authenticated, connectGuard, identityOf, KeyService } from "../src/index.js";
import type { AuthClient, CredentialType } from "../src/index.js";
import type { Fields } from "./case.js";

export interface GuardCall {
  headers: [string, string][];
  required_scopes?: string[];
  accept?: CredentialType[];
  listed?: boolean;
  public?: boolean;
}

const QUIET = { warn: () => undefined, error: () => undefined };
// The handler is one of this service, because its code is there.
const METHOD = "authsvc.v1.KeyService/GetKey";

/** Serve one call with a guard, and return what came back and what the handler saw. */
export const guardedCalls = { grpc, http: plain };

async function grpc(client: AuthClient, call: GuardCall): Promise<Fields> {
  let seen: Fields | undefined;
  const guard = connectGuard(client, {
    scopes: call.public
      ? {}
      : { [call.listed === false ? "other.v1.Service/*" : METHOD]: call.required_scopes ?? [] },
    public: call.public ? [METHOD] : [],
    accept: call.accept,
    log: QUIET,
  });
  const adapter = connectNodeAdapter({
    routes: (router) =>
      router.rpc(KeyService.method.getKey, (_, context) => {
        seen = caller(() => identityOf(context));
        return {};
      }),
    ...guard,
  });
  // Node's client of HTTP/2 cannot send a header twice, so that is sent by Connect's protocol over HTTP/1.1.
  const twice = new Set(call.headers.map(([name]) => name)).size < call.headers.length;
  const server = twice ? http.createServer(adapter) : http2.createServer(adapter);
  const port = await listening(server);
  try {
    const answer = await (twice ? byConnect : byGrpc)(port, call.headers);
    return outcome(answer, answer["code"] === "OK", seen);
  } finally {
    server.close();
  }
}

async function byGrpc(port: number, headers: [string, string][]): Promise<Fields> {
  const session = http2.connect(`http://127.0.0.1:${port}`);
  const stream = session.request({
    ":method": "POST",
    ":path": `/${METHOD}`,
    "content-type": "application/grpc",
    te: "trailers",
    ...Object.fromEntries(headers),
  });
  const message = toBinary(GetKeyRequestSchema, create(GetKeyRequestSchema, { keyId: "x" }));
  let trailers: http2.IncomingHttpHeaders = {};
  stream.on("response", (found) => (trailers = { ...found, ...trailers }));
  stream.on("trailers", (found) => (trailers = { ...trailers, ...found }));
  stream.resume().end(Buffer.concat([Buffer.from([0, 0, 0, 0, message.length]), message]));
  await new Promise((resolve, reject) => stream.on("close", resolve).on("error", reject));
  session.destroy();
  const status = fromBinary(
    StatusSchema,
    Buffer.from(String(trailers["grpc-status-details-bin"] ?? ""), "base64"),
  );
  return told(codeName(Number(trailers["grpc-status"])), status.details);
}

async function byConnect(port: number, headers: [string, string][]): Promise<Fields> {
  const [status, , body] = await requested(
    port,
    `/${METHOD}`,
    [["content-type", "application/json"], ...headers],
    "{}",
  );
  const answer = JSON.parse(body) as { code?: string; details?: { type: string; value: string }[] };
  const details = (answer.details ?? []).map(({ type, value }) =>
    create(AnySchema, { typeUrl: `type.googleapis.com/${type}`, value: Buffer.from(value, "base64") }),
  );
  return told(status === 200 ? "OK" : (answer.code ?? "").toUpperCase(), details);
}

function told(code: string, details: Any[]): Fields {
  const infos = details.map((each) => anyUnpack(each, ErrorInfoSchema)).filter((each) => each !== undefined);
  const retries = details
    .map((each) => anyUnpack(each, RetryInfoSchema))
    .filter((each) => each !== undefined);
  const delay = retries[0]?.retryDelay;
  return {
    code,
    reason: infos[0]?.reason ?? "",
    required_scope: infos[0]?.metadata["required_scope"] ?? "",
    retry_seconds: delay === undefined ? null : Number(delay.seconds) + delay.nanos / 1e9,
  };
}

async function plain(client: AuthClient, call: GuardCall): Promise<Fields> {
  let seen: Fields | undefined;
  const guard = authenticated(client, {
    scopes: call.required_scopes ?? [],
    accept: call.accept,
    log: QUIET,
  });
  const server = http.createServer((request, response) =>
    guard(request, response, () => {
      seen = caller(() => identityOf(request));
      if (!response.writableEnded) {
        response.end("served");
      }
    }),
  );
  const port = await listening(server);
  try {
    const response = await fetched(port, "/", call.headers);
    return outcome(response, response["status"] === 200, seen);
  } finally {
    server.close();
  }
}

async function fetched(port: number, path: string, sent: [string, string][]): Promise<Fields> {
  const [status, headers, body] = await requested(port, path, sent);
  const challenge = headers["www-authenticate"] ?? "";
  return {
    status,
    reason: status === 200 ? "" : (JSON.parse(body) as Fields)["reason"],
    retry_after: headers["retry-after"] ?? null,
    error: /error="([^"]*)"/.exec(challenge)?.[1] ?? "",
    scope: /scope="([^"]*)"/.exec(challenge)?.[1] ?? "",
    ratelimit: headers["ratelimit"] ?? null,
  };
}

async function requested(
  port: number,
  path: string,
  headers: [string, string][],
  sent?: string,
): Promise<[number, http.IncomingHttpHeaders, string]> {
  const method = sent === undefined ? "GET" : "POST";
  const request = http.request({ host: "127.0.0.1", port, path, method, agent: false });
  for (const name of new Set(headers.map(([each]) => each))) {
    request.setHeader(
      name,
      headers.filter(([each]) => each === name).map(([, value]) => value),
    );
  }
  const response = await new Promise<http.IncomingMessage>((resolve, reject) => {
    request.on("response", resolve).on("error", reject).end(sent);
  });
  let body = "";
  for await (const part of response.setEncoding("utf8")) {
    body += part;
  }
  return [response.statusCode ?? 0, response.headers, body];
}

function outcome(answer: Fields, isAccepted: boolean, seen: Fields | undefined): Fields {
  if (isAccepted !== (seen !== undefined)) {
    throw new Error(isAccepted ? "accepted, but the handler did not run" : "refused, but the handler ran");
  }
  return { admitted: isAccepted, ...(seen ?? answer) };
}

function caller(identity: () => { credentialId: string; ownerId: string; type: string }): Fields {
  try {
    const { credentialId, ownerId, type } = identity();
    return { credential_id: credentialId, owner_id: ownerId, type };
  } catch {
    return { credential_id: null };
  }
}

function listening(server: http.Server | http2.Http2Server): Promise<number> {
  return new Promise((resolve) => {
    server.listen(0, "127.0.0.1", () => resolve((server.address() as AddressInfo).port));
  });
}
