// What the cases of ../vectors.json do not show of the middleware for HTTP.

import assert from "node:assert/strict";
import { once } from "node:events";
import http from "node:http";
import http2 from "node:http2";
import type { AddressInfo } from "node:net";
import { test } from "node:test";

import { authenticated, identityOf } from "../src/index.js";
import type { HttpGuardOptions, Middleware } from "../src/index.js";
import { KEY, serving } from "./service.js";

type Handler = (request: http.IncomingMessage, response: http.ServerResponse) => void;

/** Serves one request, and returns the response, its body, and what was logged. */
async function asked(
  options: Partial<HttpGuardOptions>,
  handler: Handler,
  headers: http.OutgoingHttpHeaders = {},
  method = "GET",
): Promise<{
  status: number | undefined;
  headers: http.IncomingHttpHeaders;
  body: string;
  logged: string[];
}> {
  const service = await serving();
  const logged: string[] = [];
  const told = (message: string): void => void logged.push(message);
  const guard: Middleware = authenticated(service.client(), {
    scopes: [],
    log: { warn: told, error: told },
    ...options,
  });
  const server = http.createServer((request, response) =>
    guard(request, response, () => handler(request, response)),
  );
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const request = http.request({ host: "127.0.0.1", port, method, headers, agent: false });
  const response = await new Promise<http.IncomingMessage>((resolve, reject) => {
    request.on("response", resolve).on("error", reject).end();
  });
  let body = "";
  for await (const part of response.setEncoding("utf8")) {
    body += part;
  }
  await new Promise((resolve) => server.close(resolve));
  await service.stop();
  return { status: response.statusCode, headers: response.headers, body, logged };
}

const seen: Handler = (request, response) => {
  response.end(
    JSON.stringify({ headers: request.headers, raw: request.rawHeaders, owner: identityOf(request).ownerId }),
  );
};
const distinct: Handler = (request, response) => {
  response.end(JSON.stringify({ headers: request.headersDistinct, trailers: request.trailersDistinct }));
};
const SENT = { authorization: `Bearer ${KEY}`, "x-auth-owner-id": "somebody-else", "x-kept": "y" };

test("The application sees the caller, and not the credential, nor what nobody has verified.", async () => {
  const { body } = await asked({}, seen, SENT);
  assert.ok(body.includes('"owner":"acme"') && body.includes("x-kept"));
  assert.ok(!body.includes(KEY) && !body.includes("somebody-else"), body);
});

test("Nor does it see them in headersDistinct, whether that was read before the guard or not.", async () => {
  const clientAddress = (request: http.IncomingMessage): string => {
    assert.ok(request.headersDistinct["x-kept"]);
    return "";
  };
  for (const options of [{}, { clientAddress }]) {
    const { body } = await asked(options, distinct, SENT);
    const { headers, trailers } = JSON.parse(body) as Record<string, object>;
    assert.deepEqual(Object.keys(headers ?? {}).sort(), ["connection", "host", "x-kept"]);
    assert.deepEqual(trailers, {});
  }
});

test("Nor does it over HTTP/2, which has no headersDistinct.", async () => {
  const service = await serving();
  const guard = authenticated(service.client(), { scopes: [] });
  const server = http2.createServer((request, response) =>
    guard(request as never, response as never, () => seen(request as never, response as never)),
  );
  await once(server.listen(0, "127.0.0.1"), "listening");
  const session = http2.connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  let body = "";
  for await (const part of session.request(SENT).setEncoding("utf8")) {
    body += part;
  }
  session.destroy();
  server.close();
  await service.stop();
  assert.ok(body.includes('"owner":"acme"') && body.includes("x-kept"), body);
  assert.ok(!body.includes(KEY) && !body.includes("somebody-else"), body);
});

test("With keepCredential, the application sees the credential.", async () => {
  const { body } = await asked({ keepCredential: true }, seen, SENT);
  assert.ok(body.includes(KEY) && !body.includes("somebody-else"), body);
});

test("A function of the service that fails lets nothing through, and is logged without its message.", async () => {
  const clientAddress = (): string => {
    throw new Error(`no address for ${KEY}`);
  };
  const { status, body, logged } = await asked({ clientAddress }, seen, SENT);
  assert.equal(status, 503);
  assert.ok(body.includes("VERIFIER_UNAVAILABLE"));
  assert.equal(logged.length, 1);
  assert.ok(!`${body}${logged.join()}`.includes(KEY));
});

test("A refusal of a HEAD has no body.", async () => {
  const { status, headers, body } = await asked({}, seen, {}, "HEAD");
  assert.equal(status, 401);
  assert.equal(headers["www-authenticate"], 'Bearer realm="authsvc"');
  assert.equal(body, "");
});

test("There is no caller without the middleware.", () => {
  assert.throws(() => identityOf({} as http.IncomingMessage), /no caller is authenticated/);
});

test("Options that cannot be meant are refused.", async () => {
  const service = await serving();
  const client = service.client();
  assert.throws(() => authenticated(client, {} as never), /scopes is missing/);
  assert.throws(() => authenticated(client, { scopes: "" }), /not a valid scope/);
  assert.throws(() => authenticated(client, { scopes: [], accept: [] }), /accept/);
  await service.stop();
});
