package io.github.authsvc.client;

import com.google.common.net.InetAddresses;

/** The address of authsvc. */
final class Target {
  private Target() {}

  /** Returns whether it is on this machine: a Unix socket, or only loopback addresses. */
  static boolean isLocal(String target) {
    int colon = target.indexOf(':');
    String scheme = colon < 0 ? "" : target.substring(0, colon);
    return switch (scheme) {
      case "unix" -> true;
      // With a DNS server, as in dns://server/name, the address depends on that server.
      case "dns" ->
          target.startsWith("dns:///") && isLoopback(target.substring("dns:///".length()));
      default -> isLoopback(target);
    };
  }

  // A host name is not on this machine, whatever it resolves to, except for localhost (RFC 6761).
  private static boolean isLoopback(String address) {
    int colon = address.lastIndexOf(':');
    String host = colon < 0 ? address : address.substring(0, colon);
    if (host.startsWith("[") && host.endsWith("]")) {
      host = host.substring(1, host.length() - 1);
    }
    return host.equals("localhost")
        || (InetAddresses.isInetAddress(host) && InetAddresses.forString(host).isLoopbackAddress());
  }
}
