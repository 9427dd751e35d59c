// The credential that a request presents: in `authorization: Bearer …` (RFC 6750) or in `x-api-key`. An empty
// header counts as not sent. A header that is sent twice is refused, on two lines or joined with a comma.

import type { HeaderPairs } from "./question.js";
import { ambiguous, unauthenticated } from "./refusal.js";
import type { CredentialType } from "./verdict.js";

/** Returns the one credential in the headers. Throws Refusal if there is none, another scheme, or several. */
export function presentedIn(headers: HeaderPairs): string {
  const authorizations: string[] = [];
  const apiKeys: string[] = [];
  for (const [name, value] of headers) {
    switch (name.toLowerCase()) {
      case "authorization":
        authorizations.push(...valuesOf(value));
        break;
      case "x-api-key":
        apiKeys.push(...valuesOf(value));
        break;
    }
  }
  const found = new Set([bearer(authorizations), one(apiKeys)].filter((text) => text !== ""));
  const [presented] = found;
  if (presented === undefined) {
    throw unauthenticated("send your key: authorization: Bearer <key string>", "CREDENTIAL_MISSING");
  }
  if (found.size > 1) {
    throw ambiguous();
  }
  return presented;
}

/** Returns the type of a credential by its form: the second part of a session token is `session`. */
export function typeOf(credential: string): CredentialType {
  const parts = credential.split("_");
  return parts.length > 2 && parts[1] === "session" ? "SESSION" : "KEY";
}

// Proxies join the values of several lines with commas.
function valuesOf(line: string): string[] {
  return line
    .split(",")
    .map((part) => part.trim())
    .filter((text) => text !== "");
}

function one(values: readonly string[]): string {
  if (values.length > 1) {
    throw ambiguous();
  }
  return values[0] ?? "";
}

function bearer(values: readonly string[]): string {
  // A value of another scheme can contain commas.
  if (values.length > 0 && !values.some((value) => /^bearer(\s|$)/i.test(value))) {
    throw unauthenticated(
      "the authorization header has an unsupported scheme; use: Bearer <key string>",
      "CREDENTIAL_SCHEME",
    );
  }
  return one(values).replace(/^\S+\s*/, "");
}
