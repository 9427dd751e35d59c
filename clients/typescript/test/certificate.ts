// A certificate for authsvc.example.

import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";

/** Returns a new pair and the file of its certificate; if no openssl is installed, skips the test. */
export function certified(t: TestContext): { key: Buffer; cert: Buffer; certificate: string } | undefined {
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
      return undefined;
    }
    throw error;
  }
  return { key: readFileSync(privateKey), cert: readFileSync(certificate), certificate };
}
