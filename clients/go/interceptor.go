package authsvc

import (
	"context"
	"log/slog"
	"net"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
)

// EveryMethod is the name in [InterceptorConfig.Scopes] for all methods that are not listed there.
const EveryMethod = "*"

var methodPattern = regexp.MustCompile(`^/?[A-Za-z_][A-Za-z0-9_.]*/(?:[A-Za-z_][A-Za-z0-9_]*|\*)$`)

// InterceptorConfig says what the methods of a server require.
type InterceptorConfig struct {
	// Scopes are the scopes that a method requires, all of them; none means any valid credential. The names are
	// package.Service/Method, package.Service/* or [EveryMethod]; the first takes precedence over the second, and that
	// over the third. A method that is not listed is refused.
	Scopes map[string][]string
	// Public are the methods that require no credential, named in the same way but for EveryMethod.
	Public []string
	// Accept are the accepted types of credentials; all if there are none.
	Accept []CredentialType
	// ClientAddress returns the user's address for the context of a call. By default it is the peer of the connection,
	// [PeerAddress]. Behind a proxy, read it from where the proxy puts it, or return "".
	ClientAddress func(context.Context) string
	// Log gets what keeps credentials from being verified, without any credential. By default it is slog.Default().
	Log *slog.Logger
}

// Interceptor verifies the credential of each call of a server before its handler starts. It refuses every call whose
// verdict is not valid; the README of this package has the codes and reasons.
//
// Handlers get the caller by [FromContext]. A stream is verified when it begins, and continues if the credential is
// revoked later. Put the interceptor first.
type Interceptor struct {
	guard   guard
	rules   map[string]rule
	address func(context.Context) string
}

// rule is what a method requires.
type rule struct {
	scopes   []string
	isPublic bool
}

// NewInterceptor returns an interceptor. Its error is about a name or scope that cannot be meant.
func NewInterceptor(client *Client, config InterceptorConfig) (*Interceptor, error) {
	made, err := newGuard(client, config.Accept, config.Log)
	if err != nil {
		return nil, err
	}
	i := &Interceptor{guard: made, rules: map[string]rule{}, address: config.ClientAddress}
	if i.address == nil {
		i.address = PeerAddress
	}
	for pattern, scopes := range config.Scopes {
		if err := checkScopes(scopes); err != nil {
			return nil, err
		}
		if err := i.add(pattern, rule{scopes: slices.Clone(scopes)}); err != nil {
			return nil, err
		}
	}
	for _, pattern := range config.Public {
		if pattern == EveryMethod {
			return nil, invalid("public methods have to be named; without any other, leave out the interceptor")
		}
		if err := i.add(pattern, rule{isPublic: true}); err != nil {
			return nil, err
		}
	}
	return i, nil
}

func (i *Interceptor) add(pattern string, required rule) error {
	if pattern != EveryMethod && !methodPattern.MatchString(pattern) {
		return invalid("%q is not a valid name; use package.Service/Method or package.Service/*", pattern)
	}
	method := "/" + strings.TrimPrefix(pattern, "/")
	if _, isListed := i.rules[method]; isListed {
		return invalid("%s is listed twice", method)
	}
	i.rules[method] = required
	return nil
}

// rule returns what a method requires, or false if it is not listed. As in gRPC, the last slash ends the name of the
// service: that of another one could begin like that of a public one.
func (i *Interceptor) rule(method string) (rule, bool) {
	method = "/" + strings.TrimPrefix(method, "/")
	service := method[:strings.LastIndex(method, "/")]
	for _, named := range []string{method, service + "/*", "/" + EveryMethod} {
		if found, isListed := i.rules[named]; isListed {
			return found, true
		}
	}
	return rule{}, false
}

// Unary is for grpc.ChainUnaryInterceptor.
func (i *Interceptor) Unary(
	ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
) (any, error) {
	ctx, refused := i.admit(ctx, info.FullMethod)
	if refused != nil {
		return nil, refused.status().Err()
	}
	return handler(ctx, request)
}

// Stream is for grpc.ChainStreamInterceptor.
func (i *Interceptor) Stream(
	server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler,
) error {
	ctx, refused := i.admit(stream.Context(), info.FullMethod)
	if refused != nil {
		return refused.status().Err()
	}
	return handler(server, &identifiedStream{stream, ctx})
}

type identifiedStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *identifiedStream) Context() context.Context { return s.ctx }

// admit returns the context of a handler, with the caller if there is one, or the refusal.
func (i *Interceptor) admit(ctx context.Context, method string) (context.Context, *refusal) {
	required, isListed := i.rule(method)
	if !isListed {
		return nil, methodNotListed(method)
	}
	if required.isPublic {
		return withIdentity(ctx, nil), nil
	}
	headers, _ := metadata.FromIncomingContext(ctx)
	identity, refused := i.guard.identify(ctx, method, presentation{
		authorization: headers.Get("authorization"),
		apiKey:        headers.Get("x-api-key"),
		scopes:        required.scopes,
		address:       func() string { return i.address(ctx) },
		agent:         first(headers.Get("user-agent")),
	})
	if refused != nil {
		return nil, refused
	}
	return withIdentity(ctx, identity), nil
}

// PeerAddress returns the IP address of the peer of a call's connection, or "" for a peer without one. Behind a proxy,
// it is the proxy.
func PeerAddress(ctx context.Context) string {
	if found, ok := peer.FromContext(ctx); ok {
		if address, ok := found.Addr.(*net.TCPAddr); ok {
			return normalAddress(address.IP.String())
		}
	}
	return ""
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}
