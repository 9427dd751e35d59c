package authsvc

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strings"
)

// guard finds out who calls, for servers of gRPC and of HTTP.
type guard struct {
	client *Client
	accept []CredentialType
	faults *faults
}

// presentation is a call: what it presents, and what it requires.
type presentation struct {
	authorization, apiKey []string
	scopes                []string
	address               func() string
	agent                 string
	headers               http.Header
}

func newGuard(client *Client, accept []CredentialType, log *slog.Logger) (guard, error) {
	if client == nil {
		return guard{}, invalid("there is no client; pass what New returns")
	}
	for _, kind := range accept {
		if kind != Key && kind != Session {
			return guard{}, invalid("%q is not a type of credentials; accept Key, Session, or leave it out", kind)
		}
	}
	return guard{client: client, accept: slices.Clone(accept), faults: newFaults(log)}, nil
}

// identify returns the caller, or the refusal for whatever else happens. The name of the request is for the log.
func (g *guard) identify(ctx context.Context, request string, made presentation) (caller *Identity, refused *refusal) {
	defer func() {
		if recovered := recover(); recovered != nil {
			caller, refused = nil, g.faults.panicked(ctx, request, recovered)
		}
	}()
	credential, refused := presentedIn(made.authorization, made.apiKey)
	if refused != nil {
		return nil, refused
	}
	kind := typeOf(credential)
	if len(g.accept) > 0 && !slices.Contains(g.accept, kind) {
		return nil, badCredential(NotFound)
	}
	question := Question{
		RequiredScopes: made.scopes,
		ClientIP:       made.address(),
		UserAgent:      made.agent,
		Headers:        made.headers,
	}
	if kind == Session && strings.Contains(made.agent, "grpc-") {
		question.UserAgent = "" // that of a library of gRPC is the same on every device
	}
	verdict, err := g.client.verify(ctx, credential, question)
	if err != nil {
		return nil, g.faults.refusal(ctx, request, err)
	}
	return identified(verdict, made.scopes)
}
