// Which scopes each method requires. A method that is not listed is refused.

import { scopesOf } from "./question.js";

/** What a method requires of its caller: all of these scopes, or no credential if it is public. */
export interface Rule {
  readonly scopes: readonly string[];
  readonly isPublic: boolean;
}

/** Scopes of all methods, or by `package.Service/Method` and `package.Service/*`. */
export type ScopesByMethod = readonly string[] | Readonly<Record<string, string | readonly string[]>>;

const PATTERN = /^\/?([A-Za-z_][A-Za-z0-9_.]*\/(?:[A-Za-z_][A-Za-z0-9_]*|\*))$/;

/** Rules by method. A method's own rule takes precedence over its service's, and that over the default. */
export class Access {
  readonly #rules = new Map<string, Rule>();
  readonly #forAll: Rule | undefined;

  /** Throws TypeError for an invalid pattern or scope, and for a pattern that is listed twice. */
  constructor(scopes: ScopesByMethod, publicMethods: readonly string[] = []) {
    if (typeof publicMethods === "string") {
      throw new TypeError("public takes a list of patterns, not a string");
    }
    if (Array.isArray(scopes)) {
      this.#forAll = { scopes: scopesOf(scopes), isPublic: false };
    } else if (typeof scopes === "object" && scopes !== null) {
      for (const [pattern, needed] of Object.entries(scopes)) {
        this.#add(pattern, { scopes: scopesOf(needed), isPublic: false });
      }
    } else {
      throw new TypeError(
        "scopes takes a list for all methods, or an object with methods; use [] for any credential",
      );
    }
    for (const pattern of publicMethods) {
      this.#add(pattern, { scopes: [], isPublic: true });
    }
  }

  /** Returns the rule for `package.Service/Method`; undefined if it is not listed. */
  rule(service: string, method: string): Rule | undefined {
    return this.#rules.get(`${service}/${method}`) ?? this.#rules.get(`${service}/*`) ?? this.#forAll;
  }

  #add(pattern: string, rule: Rule): void {
    const method = PATTERN.exec(pattern)?.[1];
    if (method === undefined) {
      throw new TypeError(
        `${JSON.stringify(pattern)} is not a valid pattern; use package.Service/Method or package.Service/*`,
      );
    }
    if (this.#rules.has(method)) {
      throw new TypeError(`${method} is listed twice`);
    }
    this.#rules.set(method, rule);
  }
}
