package authsvc

import (
	"net"
	"net/netip"
	"strings"
)

// isLocal says whether a target is on this machine: a Unix socket, or a loopback address. A host name is not, whatever
// it resolves to, except for localhost (RFC 6761).
func isLocal(target string) bool {
	scheme, rest, _ := strings.Cut(target, ":")
	switch scheme {
	case "unix", "unix-abstract":
		return true
	case "dns", "passthrough":
		// With a DNS server, as in dns://server/name, the address depends on that server.
		return isLoopback(strings.TrimPrefix(rest, "///"))
	}
	return isLoopback(target)
}

// isLoopback says whether host:port, or a host without a port, is loopback.
func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = strings.Trim(address, "[]")
	}
	found, err := netip.ParseAddr(host)
	if err != nil {
		return host == "localhost"
	}
	return found.Unmap().IsLoopback()
}
