// The key that the client calls authsvc with: a string, a function, or a file that is read again when it
// changes.

import { readFileSync, statSync } from "node:fs";

import { Refused } from "./errors.js";

// A file that is written again after this time certainly has another modification time.
const MTIME_GRANULARITY_MS = 2000;

/** Where the client's own key comes from. */
export interface KeySource {
  /** A key string, or a function that returns the current one. It is called for each attempt. */
  key?: string | (() => string) | null | undefined;
  /** A file that contains the key string. */
  keyFile?: string | URL | undefined;
}

/** Provides the `authorization` header of calls. The key is in no text form of it. */
export class OwnKey {
  readonly #file: string | URL | undefined;
  readonly #current: (() => string) | undefined;
  #header = "";
  #stamp = "";

  /** Throws TypeError for no source, for two, and for a string that cannot be a key. */
  constructor(source: KeySource) {
    const { key, keyFile } = source;
    if ((key === undefined) === (keyFile === undefined)) {
      throw new TypeError(
        "set either key or keyFile; key: null is for a client that a certificate names (tls.certificate)",
      );
    }
    this.#file = keyFile;
    this.#current = typeof key === "function" ? key : undefined;
    if (typeof key === "string") {
      if (key.startsWith("~") || /[/\\]/.test(key)) {
        throw new TypeError("key looks like a path; to read the key from a file, set keyFile");
      }
      this.#header = authorization(key);
    }
  }

  /**
   * Returns the header for a new attempt; "" for none. If the file is missing, empty or partly written, the
   * last key from it is used. Throws Refused if there is no key.
   */
  header(): string {
    try {
      if (this.#file !== undefined) {
        this.#read(this.#file);
      } else if (this.#current !== undefined) {
        this.#header = authorization(this.#current());
      }
    } catch (error) {
      if (this.#header === "" || this.#file === undefined) {
        const problem = problemOf(error);
        throw new Refused(
          `cannot get the client's own key: ${problem}`,
          "UNAUTHENTICATED",
          "OWN_KEY_MISSING",
        );
      }
    }
    return this.#header;
  }

  // Usually, this takes one `stat`. A file that was written only just now could be written again with the
  // same modification time, so it is read again the next time.
  #read(file: string | URL): void {
    const found = statSync(file, { bigint: true });
    const stamp = `${found.mtimeNs} ${found.ino} ${found.size}`;
    if (stamp === this.#stamp) {
      return;
    }
    this.#header = authorization(textOf(readFileSync(file)));
    this.#stamp = Date.now() - Number(found.mtimeMs) > MTIME_GRANULARITY_MS ? stamp : "";
  }
}

// Without the message of an error that somebody else threw: it could contain the key.
function problemOf(error: unknown): string {
  if (error instanceof KeyProblem) {
    return error.message;
  }
  const code = (error as NodeJS.ErrnoException | undefined)?.code;
  return typeof code === "string" ? code : "the function that returns it failed";
}

class KeyProblem extends TypeError {}

// Editors and shells on Windows write a byte order mark first.
function textOf(content: Buffer): string {
  const mark = content.toString("hex", 0, 2);
  const encoding = mark === "fffe" ? "utf-16le" : mark === "feff" ? "utf-16be" : "utf-8";
  return new TextDecoder(encoding).decode(content);
}

function authorization(keyString: string): string {
  const bare = keyString.trim();
  if (!/^[\x21-\x7e]+$/.test(bare)) {
    throw new KeyProblem(
      "the key is empty or has characters that no key string has; check that it was copied completely",
    );
  }
  return `Bearer ${bare}`;
}
