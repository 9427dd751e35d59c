package authsvc

import (
	"log/slog"
	"net/http"
	"strings"
)

// MiddlewareConfig says how requests are verified.
type MiddlewareConfig struct {
	// Accept are the accepted types of credentials; all if there are none.
	Accept []CredentialType
	// ClientAddress returns the user's address. By default it is the peer of the connection, RemoteAddr. Behind a proxy,
	// read it from where the proxy puts it, or return "".
	ClientAddress func(*http.Request) string
	// KeepCredential lets handlers see the credential. Otherwise it is removed from the headers.
	KeepCredential bool
	// Log gets what keeps credentials from being verified, without any credential. By default it is slog.Default().
	Log *slog.Logger
}

// Middleware verifies the credential of each request before its handler is called. It refuses every request whose
// verdict is not valid, with the challenge of RFC 6750 and a problem of RFC 9457; the README of this package has the
// statuses and reasons.
//
// Handlers get the caller by [FromContext] with the context of the request. A response that takes long continues if
// the credential is revoked in the meantime.
type Middleware struct {
	guard  guard
	config MiddlewareConfig
}

// NewMiddleware returns a middleware. Its error is about a configuration that cannot be meant.
func NewMiddleware(client *Client, config MiddlewareConfig) (*Middleware, error) {
	made, err := newGuard(client, config.Accept, config.Log)
	if err != nil {
		return nil, err
	}
	if config.ClientAddress == nil {
		config.ClientAddress = func(request *http.Request) string { return request.RemoteAddr }
	}
	return &Middleware{guard: made, config: config}, nil
}

// Require returns what wraps a handler: requests need a valid credential with all of the scopes.
//
//	mux.Handle("GET /orders", middleware.Require("orders:read")(orders))
//
// A handler that is not wrapped is open to everybody. It panics for a scope that no credential can have, as other
// functions do that are called once when a program starts.
func (m *Middleware) Require(scopes ...string) func(http.Handler) http.Handler {
	if err := checkScopes(scopes); err != nil {
		panic(err)
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
			ctx := request.Context()
			identity, refused := m.guard.identify(ctx, request.Method+" "+request.URL.Path, presentation{
				authorization: request.Header["Authorization"],
				apiKey:        request.Header["X-Api-Key"],
				scopes:        scopes,
				address:       func() string { return m.config.ClientAddress(request) },
				agent:         request.UserAgent(),
				headers:       request.Header,
			})
			if refused != nil {
				refused.write(writer)
				return
			}
			admitted := request.Clone(withIdentity(ctx, identity))
			m.hide(admitted.Header)
			next.ServeHTTP(writer, admitted)
		})
	}
}

// hide removes the credential, and what a gateway tells its upstream: nobody has told us.
func (m *Middleware) hide(headers http.Header) {
	if !m.config.KeepCredential {
		headers.Del("Authorization")
		headers.Del("X-Api-Key")
	}
	for name := range headers {
		switch strings.ToLower(strings.ReplaceAll(name, "_", "-")) {
		case "x-auth-key-id", "x-auth-session-id", "x-auth-owner-id", "x-auth-scopes", "x-auth-credential-type":
			delete(headers, name)
		}
	}
}
