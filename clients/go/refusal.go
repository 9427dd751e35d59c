package authsvc

import (
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"
)

const (
	maxMetadataLength = 3200
	maxNamedLength    = 200
	// How long to wait if authsvc does not say.
	retryByDefault = time.Second
)

// refusal is a call that is refused: a code, a stable reason, and a message that says what to do.
type refusal struct {
	code       codes.Code
	message    string
	reason     string
	metadata   map[string]string
	retryAfter time.Duration // 0: waiting does not help
	limits     []RateLimit
}

// status returns the refusal for clients of gRPC.
func (r *refusal) status() *status.Status {
	info := &errdetails.ErrorInfo{Reason: r.reason, Domain: domain, Metadata: r.metadata}
	more := []protoadapt.MessageV1{info}
	if r.retryAfter > 0 {
		more = append(more, &errdetails.RetryInfo{RetryDelay: durationpb.New(r.retryAfter)})
	}
	told := status.New(r.code, r.message)
	if detailed, err := told.WithDetails(more...); err == nil {
		return detailed
	}
	return told
}

func unauthenticated(message, reason string) *refusal {
	return &refusal{code: codes.Unauthenticated, message: message, reason: reason}
}

func ambiguous() *refusal {
	return unauthenticated("send exactly one credential", "CREDENTIAL_AMBIGUOUS")
}

// badCredential returns the refusal of a credential that is not valid, with the cause.
func badCredential(code Code) *refusal {
	reason, problem := "CREDENTIAL_INVALID", "is not accepted"
	switch code {
	case NotFound:
		problem = "is not known; check that it was copied completely"
	case Revoked:
		reason, problem = "CREDENTIAL_REVOKED", "was revoked; create a new key, or sign in again"
	case Expired:
		reason, problem = "CREDENTIAL_EXPIRED", "has expired; create or rotate to a new key, or sign in again"
	case Disabled:
		reason = "CREDENTIAL_DISABLED"
		problem = "is a key that is disabled, or the policy of its owner has switched keys off; enable it, or sign in"
	case AddressNotAllowed:
		reason = "CREDENTIAL_ADDRESS_NOT_ALLOWED"
		problem = "may not be used from this address; call from one of its allowed_networks, or change these"
	}
	return unauthenticated("the presented credential "+problem, reason)
}

// limited returns the refusal of a key that has reached a rate limit, or has too few credits.
func limited(verdict Verdict) *refusal {
	reason := "CREDENTIAL_RATE_LIMITED"
	message := "the presented credential has reached a rate limit; retry later, and send fewer requests"
	if verdict.Code == CreditsExhausted {
		reason = "CREDENTIAL_CREDITS_EXHAUSTED"
		message = "the presented credential has too few credits; wait for the next refill, or ask its owner for more"
	}
	return &refusal{
		code:       codes.ResourceExhausted,
		message:    message,
		reason:     reason,
		retryAfter: verdict.RetryAfter,
		limits:     verdict.RateLimits,
	}
}

// scopeMissing returns the refusal of a valid credential that lacks scopes.
func scopeMissing(missing []string) *refusal {
	named := cut(strings.Join(missing, " "), maxMetadataLength)
	return &refusal{
		code:     codes.PermissionDenied,
		message:  "this needs the scope " + cut(named, maxNamedLength),
		reason:   "SCOPE_MISSING",
		metadata: map[string]string{"required_scope": named},
	}
}

func methodNotListed(method string) *refusal {
	return &refusal{
		code:     codes.PermissionDenied,
		message:  "the service has no scopes configured for this method; it must list the method",
		reason:   "METHOD_NOT_LISTED",
		metadata: map[string]string{"method": cut(method, maxMetadataLength)},
	}
}

// unavailable returns the refusal of a credential that cannot be verified right now. The cause is only in our log.
func unavailable(retryAfter time.Duration) *refusal {
	if retryAfter <= 0 {
		retryAfter = retryByDefault
	}
	return &refusal{
		code:       codes.Unavailable,
		message:    "the credential cannot be verified right now; retry",
		reason:     "VERIFIER_UNAVAILABLE",
		retryAfter: retryAfter,
	}
}

func cut(text string, longest int) string { return text[:min(len(text), longest)] }
