// Runs the cases of clients/vectors.json with this client; clients/README.md has the protocol.
// The environment names the cases, the scripted service with its control, and perhaps a real service.

import { readFileSync } from "node:fs";

import { Case } from "./case.js";

interface Vector {
  name: string;
  given: { service?: unknown };
}

const environment = process.env;
const { cases } = JSON.parse(readFileSync(environment["AUTHSVC_VECTORS"] ?? "", "utf8")) as {
  cases: Vector[];
};
let failed = 0;
for (const { name, given } of cases) {
  if (given.service !== undefined && environment["AUTHSVC_SERVICE"] === undefined) {
    console.log(`ok ${name} # SKIP no real service`);
    continue;
  }
  let problems: string[];
  try {
    problems = await Case.run(name);
  } catch (error) {
    problems = [error instanceof Error ? (error.stack ?? error.message) : String(error)];
  }
  failed += problems.length > 0 ? 1 : 0;
  console.log(
    problems.length === 0 ? `ok ${name}` : `not ok ${name}: ${problems.join("; ").replaceAll("\n", " ")}`,
  );
}
process.exit(failed > 0 ? 1 : 0);
