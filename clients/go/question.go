package authsvc

import (
	"net/http"
	"net/netip"
	"strings"
	"unicode/utf8"

	"github.com/authsvc/authsvc/clients/go/authsvcv1"
)

const (
	// Key strings and session tokens are much shorter than this. Longer texts are not sent.
	maxCredentialLength = 1024
	// Tokens with many scopes are shorter than this.
	maxTokenLength   = 8192
	maxAddressLength = 64
	// authsvc keeps a quarter of this.
	maxAgentLength = 2048
	maxHintLength  = 512
)

// Question is what a verification asks about a credential besides whether it is good.
type Question struct {
	// RequiredScopes are scopes that the credential must have, all of them.
	RequiredScopes []string
	// AnyOfScopes are scopes of which it must have one, unless there are none.
	AnyOfScopes []string
	// ClientIP is the address of whoever presents the credential. What is not an address is left out.
	ClientIP string
	// UserAgent is that of whoever presents it.
	UserAgent string
	// Cost is what a valid verification takes from the rate limits and credits of a key: 1 if nil. 0 only asks.
	Cost *uint32
	// Headers are those of the user's request, for a session. Only the client hints (sec-ch-ua-…) are used.
	Headers http.Header
}

func (q Question) check() error {
	if err := checkScopes(q.RequiredScopes); err != nil {
		return err
	}
	return checkScopes(q.AnyOfScopes)
}

func checkScopes(scopes []string) error {
	for _, scope := range scopes {
		if strings.TrimSpace(scope) == "" || !isPrintable(scope) {
			return invalid("%q is not a valid scope; use a form like orders:read", scope)
		}
	}
	return nil
}

// bare returns a credential without whitespace around it, and whether it can be one.
func bare(presented string, longest int) (string, bool) {
	text := strings.TrimSpace(presented)
	if text == "" || len(text) > longest {
		return "", false
	}
	for _, character := range []byte(text) {
		if character >= utf8.RuneSelf {
			return "", false
		}
	}
	return text, true
}

// typeOf returns the type of a credential by its form: the second part of a session token is session.
func typeOf(credential string) CredentialType {
	if parts := strings.SplitN(credential, "_", 3); len(parts) == 3 && parts[1] == "session" {
		return Session
	}
	return Key
}

// normalAddress returns an address as authsvc shows it, without brackets, port and zone, or "" for what is none.
func normalAddress(text string) string {
	text = strings.TrimSpace(text)
	if len(text) > maxAddressLength {
		return ""
	}
	if rest, isBracketed := strings.CutPrefix(text, "["); isBracketed {
		host, port, _ := strings.Cut(rest, "]")
		if port != "" && !strings.HasPrefix(port, ":") {
			return ""
		}
		text = host
	} else if strings.Count(text, ":") == 1 {
		text, _, _ = strings.Cut(text, ":")
	}
	found, err := netip.ParseAddr(text)
	if err != nil {
		return ""
	}
	return found.WithZone("").Unmap().String()
}

// sendable returns the beginning of a text, without bytes that a message cannot contain.
func sendable(text string, longest int) string {
	text = strings.ToValidUTF8(text, "\ufffd")
	if len(text) <= longest {
		return text
	}
	for longest > 0 && !utf8.RuneStart(text[longest]) {
		longest--
	}
	return text[:longest]
}

// clientHints returns the client hints in headers, or nil if there are none.
func clientHints(headers http.Header) *authsvcv1.ClientHints {
	hints, isAny := &authsvcv1.ClientHints{}, false
	for header, field := range map[string]*string{
		"Sec-Ch-Ua":                   &hints.Brands,
		"Sec-Ch-Ua-Full-Version-List": &hints.FullVersionList,
		"Sec-Ch-Ua-Platform":          &hints.Platform,
		"Sec-Ch-Ua-Platform-Version":  &hints.PlatformVersion,
		"Sec-Ch-Ua-Model":             &hints.Model,
		"Sec-Ch-Ua-Mobile":            &hints.Mobile,
		"Sec-Ch-Ua-Form-Factors":      &hints.FormFactors,
	} {
		if values := headers[header]; len(values) > 0 {
			*field, isAny = sendable(values[len(values)-1], maxHintLength), true
		}
	}
	if !isAny {
		return nil
	}
	return hints
}
