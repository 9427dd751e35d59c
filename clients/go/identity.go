package authsvc

import "context"

// Identity is the caller that an [Interceptor] or a [Middleware] has let through.
type Identity struct {
	CredentialID string
	Type         CredentialType
	OwnerID      string
	Scopes       []string
	Annotations  map[string]string
}

// Has says whether the credential has a scope, for checks that depend on the request.
func (i *Identity) Has(scope string) bool { return has(i.Scopes, scope) }

type identityKey struct{}

// FromContext returns the caller. It is false outside of a call, and in one that requires no credential.
func FromContext(ctx context.Context) (*Identity, bool) {
	identity, isKnown := ctx.Value(identityKey{}).(*Identity)
	return identity, isKnown && identity != nil
}

// withIdentity returns a context with the caller, or without one that an outer guard has set.
func withIdentity(ctx context.Context, identity *Identity) context.Context {
	return context.WithValue(ctx, identityKey{}, identity)
}

// identified returns the caller of a valid verdict, or the refusal.
func identified(verdict Verdict, requiredScopes []string) (*Identity, *refusal) {
	switch verdict.Code {
	case Valid:
		return &Identity{
			CredentialID: verdict.CredentialID,
			Type:         verdict.Type,
			OwnerID:      verdict.OwnerID,
			Scopes:       verdict.Scopes,
			Annotations:  verdict.Annotations,
		}, nil
	case InsufficientScope:
		return nil, scopeMissing(verdict.Lacks(requiredScopes...))
	case RateLimited, CreditsExhausted:
		return nil, limited(verdict)
	default:
		return nil, badCredential(verdict.Code)
	}
}
