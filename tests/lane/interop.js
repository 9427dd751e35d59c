// The unary cases of gRPC's interoperability tests, by its client for Node; ends by 0 if all of them hold.
// Arguments: the address of the test service, and the directory with node_modules.
"use strict";

const assert = require("node:assert");
const { createRequire } = require("node:module");
const path = require("node:path");

const [address, place] = process.argv.slice(2);
const load = createRequire(path.join(path.resolve(place), "any.js"));
const grpc = load("@grpc/grpc-js");
const file = path.join(__dirname, "interop.proto");
const { testing } = grpc.loadPackageDefinition(load("@grpc/proto-loader").loadSync(file, { keepCase: true })).grpc;

const client = (options = {}, service = "TestService") =>
  new testing[service](address, grpc.credentials.createInsecure(), options);

/** Makes a unary call; returns its code, its message and its answer. */
const call = (stub, method, request, { headers = {}, ...options } = {}) =>
  new Promise((resolve) => {
    const metadata = new grpc.Metadata();
    for (const [name, value] of Object.entries(headers)) metadata.set(name, value);
    stub[method](request, metadata, options, (error, answer) => {
      resolve({ code: error ? error.code : 0, told: error ? error.details : "", answer });
    });
  });

const large = { response_size: 314159, payload: { body: Buffer.alloc(271828) } };
const special = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n";

const cases = {
  async empty_unary() {
    assert.strictEqual((await call(client(), "EmptyCall", {})).code, 0);
  },
  async large_unary() {
    const { code, answer } = await call(client(), "UnaryCall", large);
    assert.deepStrictEqual([code, answer.payload.body.length], [0, 314159]);
  },
  async client_compressed_unary() {
    for (const algorithm of [1, 2]) {
      // deflate, gzip
      const stub = client({ "grpc.default_compression_algorithm": algorithm });
      for (let round = 0; round < 3; round += 1) {
        const { code, answer } = await call(stub, "UnaryCall", large);
        assert.deepStrictEqual([code, answer.payload.body.length], [0, 314159]);
      }
    }
  },
  async status_code_and_message() {
    const response_status = { code: 2, message: "test status message" };
    const { code, told } = await call(client(), "UnaryCall", { response_status });
    assert.deepStrictEqual([code, told], [2, "test status message"]);
  },
  async special_status_message() {
    const { code, told } = await call(client(), "UnaryCall", { response_status: { code: 2, message: special } });
    assert.deepStrictEqual([code, told], [2, special]);
  },
  async unimplemented_method() {
    assert.strictEqual((await call(client(), "UnimplementedCall", {})).code, 12);
  },
  async unimplemented_service() {
    assert.strictEqual((await call(client({}, "UnimplementedService"), "UnimplementedCall", {})).code, 12);
  },
  async binary_and_large_metadata() {
    const headers = { "x-thing-bin": Buffer.from([0, 1, 255]), "x-large": "x".repeat(12000) };
    assert.strictEqual((await call(client(), "EmptyCall", {}, { headers })).code, 0);
    headers["x-large"] = "x".repeat(20000);
    assert.strictEqual((await call(client(), "EmptyCall", {}, { headers })).code, 8);
  },
  async timeout_on_sleeping_server() {
    const stream = client().StreamingOutputCall(
      { response_parameters: [{ size: 1, interval_us: 60000000 }] },
      { deadline: Date.now() + 50 },
    );
    stream.resume();
    const error = await new Promise((resolve) => stream.on("error", resolve));
    assert.strictEqual(error.code, 4);
  },
  async cancel_after_begin() {
    const stream = client().FullDuplexCall();
    stream.resume();
    stream.write({ response_parameters: [{ size: 9 }] });
    await new Promise((resolve) => stream.on("data", resolve));
    stream.cancel();
    const error = await new Promise((resolve) => stream.on("error", resolve));
    assert.strictEqual(error.code, 1);
  },
};

(async () => {
  for (const [name, run] of Object.entries(cases)) {
    await run();
    console.log(name);
  }
  process.exit(0);
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
