package authsvc

import (
	"context"
	"crypto/tls"
	"errors"
	"time"

	"google.golang.org/grpc"

	"github.com/authsvc/authsvc/clients/go/authsvcv1"
)

const (
	defaultDeadline    = time.Second
	defaultAttempts    = 5
	defaultConnections = 4
)

// Client verifies credentials with authsvc. One is enough for a process, and any number of goroutines may use it.
type Client struct {
	target   string
	calls    *calls
	keys     authsvcv1.KeyServiceClient
	sessions authsvcv1.SessionServiceClient
}

// Option changes how a client is made.
type Option func(*settings) error

type settings struct {
	tls         *tls.Config
	plaintext   bool
	anywhere    bool
	deadline    time.Duration
	attempts    int
	connections int
	dial        []grpc.DialOption
}

// WithTLS sets the trusted authorities, a client certificate and so on. Without it, the authorities of the system are
// trusted.
func WithTLS(config *tls.Config) Option {
	return func(s *settings) error {
		if config == nil {
			return invalid("WithTLS needs a configuration; for plain text on this machine, pass WithPlaintext")
		}
		s.tls = config.Clone()
		return nil
	}
}

// WithPlaintext uses no TLS. It is for this machine only: localhost, loopback addresses, Unix sockets.
func WithPlaintext() Option {
	return func(s *settings) error { s.plaintext = true; return nil }
}

// WithPlaintextBeyondLoopback uses no TLS, also to other machines. It is for networks in which a lower layer encrypts:
// the sidecars of a mesh, WireGuard. Otherwise keys are sent for everybody to read.
func WithPlaintextBeyondLoopback() Option {
	return func(s *settings) error { s.plaintext, s.anywhere = true, true; return nil }
}

// WithDeadline sets the time for a verification, all attempts together: by default one second. It is for calls whose
// context has no deadline, and the longest one for those of an [Interceptor] or a [Middleware].
func WithDeadline(deadline time.Duration) Option {
	return func(s *settings) error {
		if deadline <= 0 {
			return invalid("the deadline must be positive, not %v", deadline)
		}
		s.deadline = deadline
		return nil
	}
}

// WithAttempts sets how often a call is sent at most while it fails with UNAVAILABLE: by default 5 times.
func WithAttempts(attempts int) Option {
	return func(s *settings) error {
		if attempts < 1 {
			return invalid("attempts must be at least 1, not %d", attempts)
		}
		s.attempts = attempts
		return nil
	}
}

// WithConnections sets the number of connections to each address: by default 4. Use at least as many as a replica of
// authsvc has workers.
func WithConnections(connections int) Option {
	return func(s *settings) error {
		if connections < 1 {
			return invalid("connections must be at least 1, not %d", connections)
		}
		s.connections = connections
		return nil
	}
}

// WithDialOptions adds options of gRPC, such as a stats handler for traces. They can also replace what this package
// sets: do not replace the transport credentials.
func WithDialOptions(options ...grpc.DialOption) Option {
	return func(s *settings) error { s.dial = append(s.dial, options...); return nil }
}

// New returns a client of the authsvc at a target: host:port, or another name that gRPC resolves. It connects in the
// background, with TLS unless an option says otherwise. A proxy that is named in the environment is not used.
//
// The key needs the scopes keys:verify and sessions:verify. For services of all owners it belongs to the owner
// authsvc. Close the client when it is no longer needed.
func New(target string, key OwnKey, options ...Option) (*Client, error) {
	set := settings{
		deadline:    defaultDeadline,
		attempts:    defaultAttempts,
		connections: defaultConnections,
	}
	for _, option := range options {
		if err := option(&set); err != nil {
			return nil, err
		}
	}
	if key == nil {
		return nil, invalid("there is no key; pass KeyFile, KeyString or KeyFunc, or NoKey with a client certificate")
	}
	if fixed, ok := key.(*fixedKey); ok {
		if err := fixed.check(); err != nil {
			return nil, err
		}
	}
	switch {
	case set.plaintext && set.tls != nil:
		return nil, invalid("plain text and WithTLS exclude each other; pass one of them")
	case set.plaintext && !set.anywhere && !isLocal(target):
		return nil, invalid("keys would be sent to %s in plain text; leave out WithPlaintext, or pass WithTLS. "+
			"If a lower layer encrypts the traffic, pass WithPlaintextBeyondLoopback", target)
	case !set.plaintext && set.tls == nil:
		set.tls = &tls.Config{}
	}
	opened, err := connect(target, set.connections, set.tls, set.dial)
	if err != nil {
		return nil, err
	}
	made := &calls{connections: opened, ownKey: key, deadline: set.deadline, attempts: set.attempts}
	return &Client{
		target:   target,
		calls:    made,
		keys:     authsvcv1.NewKeyServiceClient(made),
		sessions: authsvcv1.NewSessionServiceClient(made),
	}, nil
}

// Conn returns what the generated stubs of package authsvcv1 take, for all other RPCs of authsvc:
//
//	keys := authsvcv1.NewKeyServiceClient(client.Conn())
//
// Calls have the client's own key, and a deadline of a minute if their context has none. UNAVAILABLE is retried if
// the call only reads, if it revokes one key or session, or if it has a request_id. Errors are those of gRPC;
// [ErrorOf] gives their reason.
func (c *Client) Conn() grpc.ClientConnInterface { return c.calls }

// Close closes the connections and ends the calls in flight. These and later calls have the reason CLIENT_CLOSED.
func (c *Client) Close() error { return c.calls.connections.close() }

// String does not show the key.
func (c *Client) String() string { return "authsvc.Client(" + c.target + ")" }

// GoString does not show the key either.
func (c *Client) GoString() string { return c.String() }

// VerifyKey returns the verdict on a presented key string. A valid verdict counts as a use. Whitespace around the key
// string is ignored.
func (c *Client) VerifyKey(ctx context.Context, keyString string, question Question) (Verdict, error) {
	if err := question.check(); err != nil {
		return Verdict{}, err
	}
	keyString, isPossible := bare(keyString, maxCredentialLength)
	if !isPossible {
		return Verdict{Code: NotFound, Type: Key}, nil
	}
	told, err := c.keys.VerifyKey(ctx, &authsvcv1.VerifyKeyRequest{
		KeyString:      keyString,
		RequiredScopes: question.RequiredScopes,
		AnyOfScopes:    question.AnyOfScopes,
		ClientIp:       normalAddress(question.ClientIP),
		UserAgent:      sendable(question.UserAgent, maxAgentLength),
		Cost:           question.Cost,
	})
	if err != nil {
		return Verdict{}, verificationError(ctx, err)
	}
	return verdictOfKey(told, question.AnyOfScopes), nil
}

// VerifySession returns the verdict on a presented session token. A valid verdict counts as activity. The address and
// the user agent become those of the session: pass the user's, or none.
func (c *Client) VerifySession(ctx context.Context, sessionToken string, question Question) (Verdict, error) {
	if err := question.check(); err != nil {
		return Verdict{}, err
	}
	if question.Cost != nil {
		return Verdict{}, invalid("a session has no Cost: it has no rate limits and no credits")
	}
	sessionToken, isPossible := bare(sessionToken, maxCredentialLength)
	if !isPossible {
		return Verdict{Code: NotFound, Type: Session}, nil
	}
	told, err := c.sessions.VerifySession(ctx, &authsvcv1.VerifySessionRequest{
		SessionToken:   sessionToken,
		RequiredScopes: question.RequiredScopes,
		AnyOfScopes:    question.AnyOfScopes,
		ClientIp:       normalAddress(question.ClientIP),
		UserAgent:      sendable(question.UserAgent, maxAgentLength),
		ClientHints:    clientHints(question.Headers),
	})
	if err != nil {
		return Verdict{}, verificationError(ctx, err)
	}
	return verdictOfSession(told, question.AnyOfScopes), nil
}

// VerifyToken returns the verdict on a presented token of DeriveToken. The audience is the name of this service, which
// the token has to be for. The verdict is about the key or session that it was derived from, with the scopes of the
// token. A valid verdict counts as a use.
func (c *Client) VerifyToken(ctx context.Context, token, audience string, question Question) (Verdict, error) {
	if err := question.check(); err != nil {
		return Verdict{}, err
	}
	token, isPossible := bare(token, maxTokenLength)
	if !isPossible {
		return Verdict{Code: NotFound, Type: Key}, nil
	}
	told, err := c.keys.VerifyToken(ctx, &authsvcv1.VerifyTokenRequest{
		Token:          token,
		Audience:       audience,
		RequiredScopes: question.RequiredScopes,
		AnyOfScopes:    question.AnyOfScopes,
		ClientIp:       normalAddress(question.ClientIP),
		Cost:           question.Cost,
	})
	if err != nil {
		return Verdict{}, verificationError(ctx, err)
	}
	return verdictOfToken(told, question.AnyOfScopes), nil
}

// verify returns the verdict on a credential of any type, for a guard.
func (c *Client) verify(ctx context.Context, credential string, question Question) (Verdict, error) {
	if c == nil {
		return Verdict{}, errors.New("there is no client")
	}
	ctx, cancel := context.WithTimeout(ctx, c.calls.deadline)
	defer cancel()
	if typeOf(credential) == Session {
		return c.VerifySession(ctx, credential, question)
	}
	return c.VerifyKey(ctx, credential, question)
}
