// Calls of any RPC, by its name.

import { fromJson, toJson } from "@bufbuild/protobuf";
import type { DescService, JsonValue } from "@bufbuild/protobuf";

import { KeyService, SessionService } from "../src/index.js";
import type { AuthClient } from "../src/index.js";

const SERVICES: readonly DescService[] = [KeyService, SessionService];

/** Returns the response as JSON of protobuf, with the names of the protos. */
export async function rpcResult(client: AuthClient, rpc: string, request: unknown): Promise<unknown> {
  const [type, name] = rpc.split("/");
  const service = SERVICES.find((each) => each.typeName === type);
  const method = service?.methods.find((each) => each.name === name);
  if (service === undefined || method === undefined) {
    throw new Error(`no such RPC: ${rpc}`);
  }
  const stub = client.service(service) as unknown as Record<string, (request: unknown) => Promise<never>>;
  const answer = await stub[method.localName]?.(fromJson(method.input, request as JsonValue));
  return toJson(method.output, answer as never, { useProtoFieldName: true });
}
