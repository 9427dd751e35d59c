// What is asked about a presented credential. Values that are only displayed never fail a verification.

import { isIP, SocketAddress } from "node:net";

import type { MessageInitShape } from "@bufbuild/protobuf";

import type { ClientHintsSchema } from "./gen/authsvc/v1/session_service_pb.js";

/** Headers of a request: names in any case, with their values. */
export type HeaderPairs = Iterable<readonly [string, string]>;

const MAX_ADDRESS_LENGTH = 64;
// authsvc keeps a quarter of this.
const MAX_AGENT_LENGTH = 2048;
const MAX_HINT_LENGTH = 512;
const HINTS = new Map([
  ["sec-ch-ua", "brands"],
  ["sec-ch-ua-full-version-list", "fullVersionList"],
  ["sec-ch-ua-platform", "platform"],
  ["sec-ch-ua-platform-version", "platformVersion"],
  ["sec-ch-ua-model", "model"],
  ["sec-ch-ua-mobile", "mobile"],
  ["sec-ch-ua-form-factors", "formFactors"],
] as const);

/** Returns scopes, given as one string or several. Throws TypeError for an invalid scope. */
export function scopesOf(scopes: string | readonly string[] | undefined): string[] {
  const found = scopes === undefined ? [] : typeof scopes === "string" ? [scopes] : [...scopes];
  for (const scope of found) {
    if (typeof scope !== "string" || !/^[\x20-\x7e]*[\x21-\x7e][\x20-\x7e]*$/.test(scope)) {
      throw new TypeError(`${JSON.stringify(scope)} is not a valid scope; use a form like orders:read`);
    }
  }
  return found;
}

/** Returns an address without brackets, port and zone, or "" if it is not an address. */
export function addressOf(text: string): string {
  let bare = text.trim();
  if (bare.length > MAX_ADDRESS_LENGTH) {
    return "";
  }
  const bracketed = /^\[([^\]]*)\](:.*)?$/.exec(bare);
  if (bracketed) {
    bare = bracketed[1] ?? "";
  } else if (bare.split(":").length === 2) {
    bare = bare.slice(0, bare.indexOf(":"));
  }
  bare = bare.split("%", 1)[0] ?? "";
  switch (isIP(bare)) {
    case 4:
      return bare;
    case 6: {
      const { address } = new SocketAddress({ address: bare, family: "ipv6" });
      const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address);
      return mapped?.[1] ?? address;
    }
    default:
      return "";
  }
}

/** Returns a user agent that can be sent. */
export function agentOf(text: string): string {
  return text.slice(0, MAX_AGENT_LENGTH).toWellFormed();
}

/** Returns the client hints in headers; undefined if there are none. */
export function hintsOf(headers: HeaderPairs): MessageInitShape<typeof ClientHintsSchema> | undefined {
  const hints: Partial<Record<string, string>> = {};
  for (const [name, value] of headers) {
    const field = HINTS.get(name.toLowerCase() as never);
    if (field !== undefined) {
      hints[field] = value.slice(0, MAX_HINT_LENGTH).toWellFormed();
    }
  }
  return Object.keys(hints).length > 0 ? hints : undefined;
}
