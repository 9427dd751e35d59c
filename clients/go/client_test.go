package authsvc

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/authsvc/authsvc/clients/go/authsvcv1"
)

const unhurried = time.Minute

// Arguments that cannot be meant are refused when the client is made, and the error does not contain the key.
func TestInvalidClients(t *testing.T) {
	for name, option := range map[string]struct {
		target string
		key    OwnKey
		option Option
	}{
		"plain text to another machine": {"authsvc.internal:50051", KeyString("hunter2"), WithPlaintext()},
		"plain text to an address":      {"192.0.2.1:50051", KeyString("hunter2"), WithPlaintext()},
		"a path as the key":             {"localhost:1", KeyString("/run/secrets/hunter2"), WithPlaintext()},
		"an empty key":                  {"localhost:1", KeyString(" "), WithPlaintext()},
		"a key with a line end":         {"localhost:1", KeyString("hunter2\nx"), WithPlaintext()},
		"no key":                        {"localhost:1", nil, WithPlaintext()},
		"no attempts":                   {"localhost:1", NoKey(), WithAttempts(0)},
		"no connections":                {"localhost:1", NoKey(), WithConnections(0)},
		"no time":                       {"localhost:1", NoKey(), WithDeadline(0)},
		"no TLS configuration":          {"localhost:1", NoKey(), WithTLS(nil)},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := New(option.target, option.key, option.option)
			if !errors.Is(err, ErrInvalid) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// Only loopback addresses and Unix sockets are this machine, whatever a name resolves to.
func TestTargetsOnThisMachine(t *testing.T) {
	for target, expected := range map[string]bool{
		"localhost:50051": true, "127.0.0.1:50051": true, "[::1]:50051": true, "127.1.2.3": true, "localhost": true,
		"dns:///localhost:1": true, "dns:localhost:1": true, "unix:/run/a.sock": true, "unix-abstract:a": true,
		"passthrough:///[::1]:1": true, "[::ffff:127.0.0.1]:1": true,
		"dns://192.0.2.1/localhost:1": false, "localhost.example:1": false, "0.0.0.0:1": false, "authsvc:1": false,
		"": false, "dns:50051": false, "127.0.0.1.example:1": false,
	} {
		if found := isLocal(target); found != expected {
			t.Errorf("%q is local: %v", target, found)
		}
	}
}

// hanging is a service that tells when a call has arrived, and answers when its caller has given it up.
func hanging(arrived chan<- struct{}) *standin {
	return &standin{answer: func(ctx context.Context, _ int) (*authsvcv1.VerifyKeyResponse, error) {
		arrived <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}}
}

// The error of a context that has ended is in the chain, so that callers can tell it from an outage.
func TestTheContextEnds(t *testing.T) {
	arrived := make(chan struct{}, 1)
	service := hanging(arrived)
	client := service.client(t, NoKey())
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-arrived; cancel() }()
	_, err := client.VerifyKey(ctx, "x", Question{})
	if unavailable, ok := errors.AsType[*UnavailableError](err); !ok || unavailable.Code != codes.Canceled {
		t.Errorf("got %v", err)
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("not canceled: %v", err)
	}
	ended, cancelled := context.WithTimeout(context.Background(), 0)
	defer cancelled()
	if _, err := client.VerifyKey(ended, "x", Question{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

// A client that was closed says so, also to calls that were waiting, and to those of stubs.
func TestAClosedClient(t *testing.T) {
	arrived := make(chan struct{}, 1)
	service := hanging(arrived)
	client := service.client(t, NoKey())
	waiting := make(chan error, 1)
	go func() {
		_, err := client.VerifyKey(context.Background(), "x", Question{})
		waiting <- err
	}()
	<-arrived
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	_, after := client.VerifyKey(context.Background(), "x", Question{})
	_, ofStub := authsvcv1.NewKeyServiceClient(client.Conn()).GetKey(context.Background(), &authsvcv1.GetKeyRequest{})
	_, ofStream := client.Conn().NewStream(context.Background(), &grpc.StreamDesc{ServerStreams: true}, api+"A/B")
	for name, err := range map[string]error{
		"waiting": <-waiting, "after": after, "a stub": ErrorOf(ofStub), "a stream": ErrorOf(ofStream),
	} {
		told, ok := errors.AsType[*UnavailableError](err)
		if !ok || told.Code != codes.Canceled || told.Reason != "CLIENT_CLOSED" || errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// All connections are used, and another attempt goes to another one.
func TestConnections(t *testing.T) {
	service := &standin{}
	client := service.client(t, NoKey(), WithConnections(3))
	used := map[string]bool{}
	for len(used) < 3 {
		verified(t, client)
		used[service.seen()[0]] = true
	}
	service.mu.Lock()
	service.answer = func(ctx context.Context, number int) (*authsvcv1.VerifyKeyResponse, error) {
		if number == 1 {
			return down(ctx, number)
		}
		return valid, nil
	}
	service.mu.Unlock()
	verified(t, client)
	if peers := service.seen(); len(peers) != 2 || peers[0] == peers[1] {
		t.Errorf("called by %v", peers)
	}
}

// A connection that lets a deadline pass is left out while another works.
func TestAHangingConnectionIsLeftOut(t *testing.T) {
	service, hanging := &standin{}, ""
	client := service.client(t, NoKey(), WithConnections(2))
	used := map[string]bool{}
	for len(used) < 2 {
		verified(t, client)
		used[service.seen()[0]] = true
	}
	service.mu.Lock()
	service.answer = func(ctx context.Context, _ int) (*authsvcv1.VerifyKeyResponse, error) {
		service.mu.Lock()
		from := service.peers[len(service.peers)-1]
		if hanging == "" {
			hanging = from
		}
		isHanging := from == hanging
		service.mu.Unlock()
		if isHanging {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return valid, nil
	}
	service.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	if _, err := client.VerifyKey(ctx, "x", Question{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
	service.seen()
	for range 6 {
		verified(t, client)
	}
	if slices.Contains(service.seen(), hanging) {
		t.Error("the hanging connection was used")
	}
}

// 50 ms at most, then twice as long each time, up to a second.
func TestPauses(t *testing.T) {
	for attempt, longest := range map[int]time.Duration{
		1: 50 * time.Millisecond, 2: 100 * time.Millisecond, 5: 800 * time.Millisecond, 6: time.Second, 9999: time.Second,
	} {
		if found := pauseAfter(attempt, 1); found != longest {
			t.Errorf("after %d: %v", attempt, found)
		}
		if found := pauseAfter(attempt, 0); found != longest/2 {
			t.Errorf("after %d without jitter: %v", attempt, found)
		}
	}
}

// What may be sent twice: reads, the revocation of one thing, and changes with a request_id.
func TestWhatIsRepeated(t *testing.T) {
	for _, each := range []struct {
		method   string
		request  any
		expected bool
	}{
		{"KeyService/VerifyKey", &authsvcv1.VerifyKeyRequest{}, true},
		{"AuditService/ListAuditEvents", &authsvcv1.ListAuditEventsRequest{}, true},
		{"KeyService/PreviewRevocation", &authsvcv1.PreviewRevocationRequest{}, true},
		{"SessionService/RevokeSession", &authsvcv1.RevokeSessionRequest{}, true},
		{"SessionService/RevokeAllSessions", &authsvcv1.RevokeAllSessionsRequest{}, false},
		{"KeyService/RotateKey", &authsvcv1.RotateKeyRequest{}, false},
		{"KeyService/RotateKey", &authsvcv1.RotateKeyRequest{RequestId: "once"}, true},
		{"KeyService/DeriveToken", &authsvcv1.DeriveTokenRequest{}, false},
		{"WebhookService/TestWebhook", &authsvcv1.TestWebhookRequest{}, false},
	} {
		if found := isRepeatable(api+each.method, each.request); found != each.expected {
			t.Errorf("%s: %v", each.method, found)
		}
	}
	if isRepeatable("/other.v1.Service/GetThing", nil) {
		t.Error("a service of others")
	}
}

// Client hints are taken from the headers of a user's request, and nothing else is.
func TestClientHints(t *testing.T) {
	service := &standin{}
	client := service.client(t, NoKey())
	headers := http.Header{}
	headers.Set("sec-ch-ua-platform", `"Windows"`)
	headers.Set("Cookie", "secret")
	for _, given := range []http.Header{headers, {"Cookie": {"secret"}}} {
		if _, err := client.VerifySession(context.Background(), "x", Question{Headers: given}); err != nil {
			t.Fatal(err)
		}
	}
	if found := service.sessions[0].GetClientHints().GetPlatform(); found != `"Windows"` {
		t.Errorf("platform %q", found)
	}
	if service.sessions[1].GetClientHints() != nil {
		t.Error("there are no hints")
	}
	cost := uint32(2)
	if _, err := client.VerifySession(context.Background(), "x", Question{Cost: &cost}); !errors.Is(err, ErrInvalid) {
		t.Errorf("got %v", err)
	}
}

// A user agent that a message cannot contain fails no verification.
func TestTextsAreMadeSendable(t *testing.T) {
	for text, expected := range map[string]string{
		"Café/1.0": "Café/1.0", "a\xe9b": "a\ufffdb", strings.Repeat("x", 9): "xxxxx", "abcdé": "abcd", "": "",
	} {
		longest := 5
		if text == "Café/1.0" {
			longest = 20
		}
		if found := sendable(text, longest); found != expected {
			t.Errorf("%q: %q", text, found)
		}
	}
}
