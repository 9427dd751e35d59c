package authsvc

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/authsvc/authsvc/clients/go/authsvcv1"
)

// Only VALID is valid, the zero value is not, and every code of the API has a name here.
func TestVerdicts(t *testing.T) {
	if (Verdict{}).Valid() {
		t.Error("the zero verdict is valid")
	}
	for number, name := range authsvcv1.VerdictCode_name {
		code := authsvcv1.VerdictCode(number)
		isValid := code == authsvcv1.VerdictCode_VERDICT_CODE_VALID
		verdict := verdictOfKey(&authsvcv1.VerifyKeyResponse{Code: code, Valid: isValid}, nil)
		expected := Code(strings.TrimPrefix(name, "VERDICT_CODE_"))
		if number == 0 {
			expected = Other
		}
		if verdict.Code != expected || verdict.Valid() != isValid {
			t.Errorf("%s: %v", name, verdict)
		}
	}
	if missing := (Verdict{Scopes: []string{"a"}}).Lacks("a", "b"); !slices.Equal(missing, []string{"b"}) {
		t.Errorf("lacks %v", missing)
	}
	if (&Identity{Scopes: []string{FullAccess}}).Has("anything") != true {
		t.Error("full_access includes all scopes")
	}
}

// An answer has to show one of AnyOfScopes, whatever the credential is: a service that is too old to know of them has
// not looked at them.
func TestAnyOfScopesAreShown(t *testing.T) {
	client := (&standin{}).client(t, NoKey())
	verify := map[string]func(Question) (Verdict, error){
		"key": func(asked Question) (Verdict, error) { return client.VerifyKey(context.Background(), "x", asked) },
		"token": func(asked Question) (Verdict, error) {
			return client.VerifyToken(context.Background(), "x", "o", asked)
		},
		"session": func(asked Question) (Verdict, error) {
			return client.VerifySession(context.Background(), "x", asked)
		},
	}
	for kind, verify := range verify {
		for scope, expected := range map[string]Code{"a": Valid, "b": InsufficientScope} {
			verdict, err := verify(Question{AnyOfScopes: []string{scope}})
			if err != nil || verdict.Code != expected {
				t.Errorf("%s, any of %s: %v, %v", kind, scope, verdict, err)
			}
		}
	}
}
