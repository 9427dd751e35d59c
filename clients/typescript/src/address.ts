// The address of authsvc, and how it is connected to.

import { lookup } from "node:dns";
import type { LookupAddress, LookupOptions } from "node:dns";
import { readFileSync } from "node:fs";
import type { ClientSessionOptions, SecureClientSessionOptions } from "node:http2";
import { connect, isIP, isIPv4 } from "node:net";
import type { Socket } from "node:net";
import { connect as connectSecurely } from "node:tls";

// An address can accept a connection and then stay silent. Only with an open session are pings sent.
const CONNECTING_MS = 2000;

/**
 * The trusted authority and the client certificate, as PEM files that are read when the client is created.
 */
export interface Tls {
  /** Without it, the authorities that come with Node are trusted. */
  ca?: string | URL | undefined;
  /** For a service that requires client certificates; it belongs together with `privateKey`. */
  certificate?: string | URL | undefined;
  privateKey?: string | URL | undefined;
  /** The name in the service's certificate, if it is not the host of the address. */
  serverName?: string | undefined;
}

/** Where to connect to. */
export interface Target {
  readonly baseUrl: string;
  /**
   * Returns the options of a connection. Connections of different turns prefer different addresses of a name.
   */
  options(turn: number): ClientSessionOptions | SecureClientSessionOptions;
}

/**
 * Returns what to connect to. Throws TypeError for arguments that cannot be meant, and for plain text
 * elsewhere. A connection that is not open after `connectingMs` is given up.
 */
export function targetOf(
  address: string,
  tls: Tls | false,
  insecure: string,
  connectingMs: number = CONNECTING_MS,
): Target {
  if (insecure !== "" && insecure !== "plaintext-beyond-loopback") {
    throw new TypeError('insecure has to be "plaintext-beyond-loopback", or left out');
  }
  if (address.startsWith("unix:")) {
    const path = address.slice("unix:".length).replace(/^\/\/(?=\/)/, "");
    if (tls) {
      throw new TypeError("a Unix socket is not encrypted; set tls: false");
    }
    const createConnection = (): Socket => limited(connect(path), "connect", connectingMs);
    return { baseUrl: "http://localhost", options: () => ({ createConnection }) };
  }
  const url = parsed(address, tls ? "https" : "http");
  if (!tls && insecure === "" && !isLoopback(url.hostname)) {
    throw new TypeError(
      `keys would be sent to ${address} in plain text; leave tls out, or set tls: { ca: … }. If a lower layer ` +
        'encrypts the traffic, set insecure: "plaintext-beyond-loopback"',
    );
  }
  const host = url.hostname.replace(/^\[(.*)\]$/, "$1");
  const port = Number(address.slice(address.lastIndexOf(":") + 1));
  const secure = tls ? { ...(!isIP(host) && { servername: host }), ...secured(tls) } : undefined;
  const createConnection = (turn: number): Socket => {
    const to = { host, port, lookup: spread(turn) };
    return secure
      ? limited(connectSecurely({ ...to, ...secure, ALPNProtocols: ["h2"] }), "secureConnect", connectingMs)
      : limited(connect(to), "connect", connectingMs);
  };
  return {
    baseUrl: url.origin,
    options: (turn) => ({ ...secure, createConnection: () => createConnection(turn) }),
  };
}

// Gives up a socket that is not connected in time. Until then it does not keep the process alive, as the calls
// that wait for it do.
function limited(socket: Socket, connected: "connect" | "secureConnect", ms: number): Socket {
  const timer = setTimeout(() => {
    socket.destroy(Object.assign(new Error(`not connected within ${ms} ms`), { code: "ETIMEDOUT" }));
  }, ms).unref();
  const stop = (): void => clearTimeout(timer);
  // Each further address that is tried has a handle of its own.
  const release = (): unknown => socket.unref();
  return socket.unref().on("connectionAttempt", release).once(connected, stop).once("close", stop);
}

function parsed(address: string, scheme: string): URL {
  // A port that is the default one of the scheme would not be in the URL.
  const hasPort = /:\d+$/.test(address);
  let url: URL;
  try {
    url = new URL(`${scheme}://${address}`);
  } catch {
    url = new URL("invalid:");
  }
  if (!hasPort || url.hostname === "" || `${url.pathname}${url.search}${url.hash}${url.username}` !== "/") {
    throw new TypeError(
      `address: ${JSON.stringify(address)} is not valid; use a form like authsvc.internal:50051`,
    );
  }
  return url;
}

// A host name is not on this machine, whatever it resolves to, except for localhost (RFC 6761).
function isLoopback(hostname: string): boolean {
  return (
    hostname === "localhost" || hostname === "[::1]" || (isIPv4(hostname) && hostname.startsWith("127."))
  );
}

function secured(tls: Tls): SecureClientSessionOptions {
  if ((tls.certificate === undefined) !== (tls.privateKey === undefined)) {
    throw new TypeError("tls: certificate and privateKey belong together; set both, or neither");
  }
  return {
    ...(tls.ca !== undefined && { ca: readFileSync(tls.ca) }),
    ...(tls.certificate !== undefined && { cert: readFileSync(tls.certificate) }),
    ...(tls.privateKey !== undefined && { key: readFileSync(tls.privateKey) }),
    ...(tls.serverName !== undefined && { servername: tls.serverName }),
  };
}

type Found = (
  error: NodeJS.ErrnoException | null,
  address: string | LookupAddress[],
  family?: number,
) => void;

// Replicas share a name, and each connection leads to one of them.
function spread(turn: number) {
  return (host: string, options: LookupOptions, callback: Found): void => {
    lookup(host, { ...options, all: true }, (error, found) => {
      const at = found?.length ? turn % found.length : 0;
      const [first, ...others] = found ? [...found.slice(at), ...found.slice(0, at)] : [];
      if (error || first === undefined) {
        callback(error ?? Object.assign(new Error(`${host} has no address`), { code: "ENOTFOUND" }), "", 4);
      } else if (options.all) {
        callback(null, [first, ...others]);
      } else {
        callback(null, first.address, first.family);
      }
    });
  };
}
