package authsvc

import (
	"context"
	"net"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/authsvc/authsvc/clients/go/authsvcv1"
)

// standin is a substitute for authsvc. The cases of vectors.json have the rest.
type standin struct {
	authsvcv1.UnimplementedKeyServiceServer
	authsvcv1.UnimplementedSessionServiceServer

	mu       sync.Mutex
	answer   func(ctx context.Context, number int) (*authsvcv1.VerifyKeyResponse, error)
	peers    []string
	keys     []string
	sessions []*authsvcv1.VerifySessionRequest
	asked    []*authsvcv1.VerifyKeyRequest
}

var valid = &authsvcv1.VerifyKeyResponse{
	Valid: true, Code: authsvcv1.VerdictCode_VERDICT_CODE_VALID, KeyId: "key_1", OwnerId: "acme", Scopes: []string{"a"},
}

func (s *standin) VerifyKey(
	ctx context.Context, request *authsvcv1.VerifyKeyRequest,
) (*authsvcv1.VerifyKeyResponse, error) {
	from, _ := peer.FromContext(ctx)
	headers, _ := metadata.FromIncomingContext(ctx)
	s.mu.Lock()
	s.peers = append(s.peers, from.Addr.String())
	s.keys = append(s.keys, first(headers.Get("authorization")))
	s.asked = append(s.asked, request)
	number, answer := len(s.peers), s.answer
	s.mu.Unlock()
	if answer == nil {
		return valid, nil
	}
	return answer(ctx, number)
}

func (s *standin) VerifySession(
	_ context.Context, request *authsvcv1.VerifySessionRequest,
) (*authsvcv1.VerifySessionResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions = append(s.sessions, request)
	return &authsvcv1.VerifySessionResponse{
		Valid: true, Code: authsvcv1.VerdictCode_VERDICT_CODE_VALID, Scopes: []string{"a"},
	}, nil
}

func (s *standin) VerifyToken(
	context.Context, *authsvcv1.VerifyTokenRequest,
) (*authsvcv1.VerifyTokenResponse, error) {
	return &authsvcv1.VerifyTokenResponse{
		Valid: true, Code: authsvcv1.VerdictCode_VERDICT_CODE_VALID, KeyId: "key_1", Scopes: []string{"a"},
	}, nil
}

// seen returns the peers of the calls since the last time.
func (s *standin) seen() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	peers := s.peers
	s.peers = nil
	return peers
}

// serve runs the substitute until the test ends, and returns its address.
func (s *standin) serve(t *testing.T, options ...grpc.ServerOption) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(options...)
	authsvcv1.RegisterKeyServiceServer(server, s)
	authsvcv1.RegisterSessionServiceServer(server, s)
	states := health.NewServer()
	states.SetServingStatus("authsvc.v1.KeyService", healthpb.HealthCheckResponse_SERVING)
	healthpb.RegisterHealthServer(server, states)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return listener.Addr().String()
}

// client returns a client of the substitute, in plain text and without haste.
func (s *standin) client(t *testing.T, key OwnKey, options ...Option) *Client {
	t.Helper()
	return made(t, s.serve(t), key, append([]Option{WithPlaintext(), WithDeadline(unhurried)}, options...)...)
}

func made(t *testing.T, target string, key OwnKey, options ...Option) *Client {
	t.Helper()
	client, err := New(target, key, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func verified(t *testing.T, client *Client) {
	t.Helper()
	verdict, err := client.VerifyKey(context.Background(), "x", Question{})
	if err != nil || !verdict.Valid() {
		t.Fatalf("got %v, %v", verdict, err)
	}
}

func down(context.Context, int) (*authsvcv1.VerifyKeyResponse, error) {
	return nil, status.Error(codes.Unavailable, "told")
}
