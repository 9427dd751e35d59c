package authsvc

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// The handler sees its caller, and neither the credential nor what nobody has verified. A refusal is a problem.
func TestMiddleware(t *testing.T) {
	for _, keep := range []bool{false, true} {
		client := (&standin{}).client(t, NoKey())
		middleware, err := NewMiddleware(client, MiddlewareConfig{KeepCredential: keep})
		if err != nil {
			t.Fatal(err)
		}
		var seen http.Header
		handler := middleware.Require("a")(http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
			identity, _ := FromContext(request.Context())
			seen = request.Header
			_, _ = io.WriteString(writer, identity.OwnerID)
		}))
		request := httptest.NewRequest(http.MethodGet, "/orders", nil)
		for name, value := range map[string]string{
			"Authorization": "Bearer x", "X-Api-Key": "x", "X-Auth-Owner-Id": "else", "X_auth_owner_id": "else", "Accept": "a",
		} {
			request.Header[name] = []string{value}
		}
		response := httptest.NewRecorder()
		handler.ServeHTTP(response, request)
		if response.Code != http.StatusOK || response.Body.String() != "acme" {
			t.Fatalf("%d: %s", response.Code, response.Body)
		}
		expected := 1
		if keep {
			expected = 3
		}
		if len(seen) != expected || seen.Get("Accept") != "a" {
			t.Errorf("the handler has seen %v", seen)
		}
		if request.Header.Get("Authorization") == "" {
			t.Error("the request of the server was changed")
		}
	}
}

// The body of a refusal says what to do, in the form of RFC 9457.
func TestAProblem(t *testing.T) {
	response := httptest.NewRecorder()
	scopeMissing([]string{"a", `b"\`}).write(response)
	expected := `{"type":"urn:authsvc:problem:scope-missing","title":"A scope is missing","status":403,` +
		`"detail":"this needs the scope a b\"\\","reason":"SCOPE_MISSING","missing_scopes":["a","b\"\\"]}`
	if found := strings.TrimSpace(response.Body.String()); found != expected {
		t.Error(found)
	}
	challenge := `Bearer realm="authsvc", error="insufficient_scope", ` +
		`error_description="this needs the scope a b", scope="a b"`
	if found := response.Header().Get("WWW-Authenticate"); found != challenge {
		t.Error(found)
	}
}

// A scope that no credential can have is a mistake in the program.
func TestRequireWithAScopeThatIsNone(t *testing.T) {
	middleware, err := NewMiddleware((&standin{}).client(t, NoKey()), MiddlewareConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err, _ := recover().(error); !errors.Is(err, ErrInvalid) {
			t.Errorf("got %v", err)
		}
	}()
	middleware.Require("")
}
