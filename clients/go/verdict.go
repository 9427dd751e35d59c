package authsvc

import (
	"maps"
	"slices"
	"time"

	"github.com/authsvc/authsvc/clients/go/authsvcv1"
)

// FullAccess is the scope that includes all others.
const FullAccess = "full_access"

// CredentialType is the type of a presented credential.
type CredentialType string

// The types of credentials.
const (
	Key     CredentialType = "KEY"
	Session CredentialType = "SESSION"
)

// Code is the result of a verification.
type Code string

// The results. Only Valid is one to accept.
const (
	Valid             Code = "VALID"
	NotFound          Code = "NOT_FOUND"
	Revoked           Code = "REVOKED"
	Expired           Code = "EXPIRED"
	InsufficientScope Code = "INSUFFICIENT_SCOPE"
	Disabled          Code = "DISABLED"
	AddressNotAllowed Code = "ADDRESS_NOT_ALLOWED"
	RateLimited       Code = "RATE_LIMITED"
	CreditsExhausted  Code = "CREDITS_EXHAUSTED"
	// Other is a code of a newer service that this package does not know, or an answer that contradicts itself.
	Other Code = "OTHER"
)

var codeOf = map[authsvcv1.VerdictCode]Code{
	authsvcv1.VerdictCode_VERDICT_CODE_VALID:               Valid,
	authsvcv1.VerdictCode_VERDICT_CODE_NOT_FOUND:           NotFound,
	authsvcv1.VerdictCode_VERDICT_CODE_REVOKED:             Revoked,
	authsvcv1.VerdictCode_VERDICT_CODE_EXPIRED:             Expired,
	authsvcv1.VerdictCode_VERDICT_CODE_INSUFFICIENT_SCOPE:  InsufficientScope,
	authsvcv1.VerdictCode_VERDICT_CODE_DISABLED:            Disabled,
	authsvcv1.VerdictCode_VERDICT_CODE_ADDRESS_NOT_ALLOWED: AddressNotAllowed,
	authsvcv1.VerdictCode_VERDICT_CODE_RATE_LIMITED:        RateLimited,
	authsvcv1.VerdictCode_VERDICT_CODE_CREDITS_EXHAUSTED:   CreditsExhausted,
}

// RateLimit is a rate limit, and what is left of it.
type RateLimit struct {
	Name   string
	Limit  int64
	Period time.Duration
	// Remaining is how many units are left.
	Remaining int64
	// Reset is when all units are back if none is taken.
	Reset time.Duration
	// OfOwner says that it is for all keys of the owner.
	OfOwner bool
}

// Verdict is the answer about a credential. The zero Verdict is not valid.
type Verdict struct {
	Code Code
	Type CredentialType
	// CredentialID is the id of the key or session. It and the following fields are empty if Code is NotFound.
	CredentialID string
	OwnerID      string
	Scopes       []string
	// ExpireTime is zero for a key that never expires. A session expires then if it is not used before.
	ExpireTime time.Time
	// Annotations are those of a key.
	Annotations map[string]string
	RateLimits  []RateLimit
	// RetryAfter is how long to wait if Code is RateLimited or CreditsExhausted; 0 if waiting does not help.
	RetryAfter time.Duration
	// CreditsRemaining is nil for a key without credits, or if it is not known.
	CreditsRemaining *int64
}

// Valid says whether to accept the request.
func (v Verdict) Valid() bool { return v.Code == Valid }

// Lacks returns those of the scopes that the credential does not have.
func (v Verdict) Lacks(scopes ...string) []string {
	var missing []string
	for _, scope := range scopes {
		if !has(v.Scopes, scope) {
			missing = append(missing, scope)
		}
	}
	return missing
}

// has says whether one of the scopes is the given one, or includes it.
func has(scopes []string, scope string) bool {
	return slices.Contains(scopes, scope) || slices.Contains(scopes, FullAccess)
}

// answer is what the responses about all credentials have in common.
type answer interface {
	GetValid() bool
	GetCode() authsvcv1.VerdictCode
	GetOwnerId() string
	GetScopes() []string
}

// verdictOf returns the verdict in an answer. It is Valid only if both fields agree, and if the answer shows one of
// the scopes: a service that is too old to know of AnyOfScopes has not looked at them.
func verdictOf(told answer, kind CredentialType, id string, anyOfScopes []string) Verdict {
	code, isKnown := codeOf[told.GetCode()]
	if !isKnown || told.GetValid() != (code == Valid) {
		code = Other
	}
	if code == Valid && len(anyOfScopes) > 0 && !slices.ContainsFunc(anyOfScopes, func(scope string) bool {
		return has(told.GetScopes(), scope)
	}) {
		code = InsufficientScope
	}
	return Verdict{Code: code, Type: kind, CredentialID: id, OwnerID: told.GetOwnerId(), Scopes: told.GetScopes()}
}

func verdictOfKey(told *authsvcv1.VerifyKeyResponse, anyOfScopes []string) Verdict {
	verdict := verdictOf(told, Key, told.GetKeyId(), anyOfScopes)
	verdict.Annotations = maps.Clone(told.GetAnnotations())
	verdict.RateLimits = rateLimits(told.GetRateLimits())
	verdict.RetryAfter = told.GetRetryAfter().AsDuration()
	verdict.CreditsRemaining = told.CreditsRemaining
	if told.GetExpireTime() != nil {
		verdict.ExpireTime = told.GetExpireTime().AsTime()
	}
	return verdict
}

func verdictOfSession(told *authsvcv1.VerifySessionResponse, anyOfScopes []string) Verdict {
	verdict := verdictOf(told, Session, told.GetSessionId(), anyOfScopes)
	if told.GetExpireTime() != nil {
		verdict.ExpireTime = told.GetExpireTime().AsTime()
	}
	return verdict
}

func verdictOfToken(told *authsvcv1.VerifyTokenResponse, anyOfScopes []string) Verdict {
	kind, id := Key, told.GetKeyId()
	if told.GetSessionId() != "" {
		kind = Session
	}
	if id == "" {
		id = told.GetSessionId()
	}
	verdict := verdictOf(told, kind, id, anyOfScopes)
	verdict.Annotations = maps.Clone(told.GetAnnotations())
	verdict.RateLimits = rateLimits(told.GetRateLimits())
	verdict.RetryAfter = told.GetRetryAfter().AsDuration()
	verdict.CreditsRemaining = told.CreditsRemaining
	if told.GetExpireTime() != nil {
		verdict.ExpireTime = told.GetExpireTime().AsTime()
	}
	return verdict
}

func rateLimits(told []*authsvcv1.RateLimitState) []RateLimit {
	var limits []RateLimit
	for _, each := range told {
		limits = append(limits, RateLimit{
			Name:      each.GetName(),
			Limit:     int64(each.GetLimit()),
			Period:    each.GetPeriod().AsDuration(),
			Remaining: int64(each.GetRemaining()),
			Reset:     each.GetReset_().AsDuration(),
			OfOwner:   each.GetOfOwner(),
		})
	}
	return limits
}
