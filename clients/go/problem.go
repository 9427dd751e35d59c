package authsvc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
)

var statuses = map[codes.Code]int{
	codes.Unauthenticated:   http.StatusUnauthorized,
	codes.PermissionDenied:  http.StatusForbidden,
	codes.ResourceExhausted: http.StatusTooManyRequests,
}

// told has the title of a reason, and the error of RFC 6750: none for a request without a credential that can be read.
var told = map[string]struct{ title, challenge string }{
	"CREDENTIAL_MISSING":           {"A credential is required", ""},
	"CREDENTIAL_SCHEME":            {"The scheme is not supported", ""},
	"CREDENTIAL_AMBIGUOUS":         {"The credential is ambiguous", "invalid_request"},
	"CREDENTIAL_RATE_LIMITED":      {"A rate limit is reached", ""},
	"CREDENTIAL_CREDITS_EXHAUSTED": {"There are too few credits", ""},
	"SCOPE_MISSING":                {"A scope is missing", "insufficient_scope"},
	"VERIFIER_UNAVAILABLE":         {"Temporarily unavailable", ""},
}

// problem is the body of a response (RFC 9457).
type problem struct {
	Type          string   `json:"type"`
	Title         string   `json:"title"`
	Status        int      `json:"status"`
	Detail        string   `json:"detail"`
	Reason        string   `json:"reason"`
	MissingScopes []string `json:"missing_scopes,omitempty"`
}

// write answers a request.
func (r *refusal) write(writer http.ResponseWriter) {
	status, isKnown := statuses[r.code]
	if !isKnown {
		status = http.StatusServiceUnavailable
	}
	say, isKnown := told[r.reason]
	if !isKnown {
		say.title, say.challenge = "The credential is not valid", "invalid_token"
	}
	missing := r.metadata["required_scope"]
	body := problem{
		Type:   "urn:authsvc:problem:" + strings.ToLower(strings.ReplaceAll(r.reason, "_", "-")),
		Title:  say.title,
		Status: status,
		Detail: r.message,
		Reason: r.reason,
	}
	if missing != "" {
		body.MissingScopes = strings.Split(missing, " ")
	}
	header := writer.Header()
	header.Set("Content-Type", "application/problem+json")
	header.Set("Cache-Control", "no-store")
	if status == http.StatusUnauthorized || say.challenge != "" {
		header.Set("WWW-Authenticate", challenge(say.challenge, r.message, missing))
	}
	if r.retryAfter > 0 {
		header.Set("Retry-After", strconv.Itoa(max(1, int(math.Ceil(r.retryAfter.Seconds())))))
	}
	if len(r.limits) > 0 {
		policy, left := limitHeaders(r.limits)
		header.Set("RateLimit-Policy", policy)
		header.Set("RateLimit", left)
	}
	var content bytes.Buffer
	encoder := json.NewEncoder(&content)
	encoder.SetEscapeHTML(false) // for people, who read <key string>
	_ = encoder.Encode(body)     // which texts and numbers always can be
	header.Set("Content-Length", strconv.Itoa(content.Len()))
	writer.WriteHeader(status)
	_, _ = content.WriteTo(writer)
}

// challenge returns the header of RFC 6750.
func challenge(code, message, missing string) string {
	header := `Bearer realm="authsvc"`
	if code != "" {
		header += fmt.Sprintf(`, error="%s", error_description="%s"`, code, quotable(message))
	}
	if missing != "" {
		header += fmt.Sprintf(`, scope="%s"`, quotable(missing))
	}
	return header
}

// quotable returns what a quoted string in a challenge may have (RFC 6750, section 3).
func quotable(text string) string {
	return strings.Map(func(character rune) rune {
		if character < ' ' || character > '~' || character == '"' || character == '\\' {
			return -1
		}
		return character
	}, text)
}

// limitHeaders returns the headers of draft-ietf-httpapi-ratelimit-headers-10: the policy, and what is left.
func limitHeaders(limits []RateLimit) (policy, left string) {
	var policies, lefts []string
	for _, each := range limits {
		name := each.Name
		if each.OfOwner {
			name = "owner." + name
		}
		policies = append(policies, fmt.Sprintf(`"%s";q=%d;w=%d`, name, each.Limit, int(each.Period.Seconds())))
		lefts = append(lefts, fmt.Sprintf(`"%s";r=%d;t=%d`, name, each.Remaining, int(each.Reset.Seconds())))
	}
	return strings.Join(policies, ", "), strings.Join(lefts, ", ")
}
