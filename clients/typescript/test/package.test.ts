// What is published.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { test } from "node:test";

test("The package has the code and the README, and no tests, cases or sources of others.", () => {
  const told = execFileSync("npm", ["pack", "--dry-run", "--json", "--ignore-scripts"], { encoding: "utf8" });
  const [{ files }] = JSON.parse(told) as [{ files: { path: string }[] }];
  const paths = files.map(({ path }) => path);
  for (const path of ["README.md", "package.json", "dist/src/index.js", "dist/src/index.d.ts"]) {
    assert.ok(paths.includes(path), path);
  }
  assert.deepEqual(
    paths.filter((path) => !/^(?:README\.md|LICENSE|package\.json|dist\/src\/.*\.(?:js|d\.ts))$/.test(path)),
    [],
  );
});

test("The lock file has hashes, and names no host.", () => {
  const lock = readFileSync("package-lock.json", "utf8");
  assert.ok(!lock.includes('"resolved"'), "set omit-lockfile-registry-resolved=true");
  assert.ok(lock.includes("sha512-"));
});
