package authsvc

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

const (
	check = "grpc.health.v1.Health/Check"
	watch = "grpc.health.v1.Health/Watch"
)

// guardedHealth runs a service with a method of each kind behind an interceptor. Who calls is noted in callers.
func guardedHealth(t *testing.T, client *Client, config InterceptorConfig, callers *[]string) healthpb.HealthClient {
	t.Helper()
	interceptor, err := NewInterceptor(client, config)
	if err != nil {
		t.Fatal(err)
	}
	note := func(ctx context.Context) {
		if identity, isKnown := FromContext(ctx); isKnown {
			*callers = append(*callers, identity.OwnerID)
		} else {
			*callers = append(*callers, "nobody")
		}
	}
	server := grpc.NewServer(
		grpc.ChainUnaryInterceptor(interceptor.Unary, func(
			ctx context.Context, request any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
		) (any, error) {
			note(ctx)
			return handler(ctx, request)
		}),
		grpc.ChainStreamInterceptor(interceptor.Stream, func(
			service any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler,
		) error {
			note(stream.Context())
			return handler(service, stream)
		}),
	)
	healthpb.RegisterHealthServer(server, health.NewServer())
	return healthpb.NewHealthClient(connected(t, server))
}

// connected serves until the test ends, and returns a connection.
func connected(t *testing.T, server *grpc.Server) *grpc.ClientConn {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	connection, err := grpc.NewClient(listener.Addr().String(), grpc.WithNoProxy(),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	return connection
}

func bearer(credential string) context.Context {
	return metadata.AppendToOutgoingContext(context.Background(), "authorization", "Bearer "+credential)
}

func watched(ctx context.Context, calls healthpb.HealthClient) error {
	stream, err := calls.Watch(ctx, &healthpb.HealthCheckRequest{})
	if err != nil {
		return err
	}
	_, err = stream.Recv()
	return err
}

func reasonOf(err error) (codes.Code, string) {
	reason, _ := details(status.Convert(err))
	return status.Code(err), reason
}

// Handlers of streams are guarded as well, and know their caller. Nobody gets in without a valid credential.
func TestStreamsAreGuarded(t *testing.T) {
	service, callers := &standin{}, []string{}
	calls := guardedHealth(t, service.client(t, NoKey()), InterceptorConfig{
		Scopes: map[string][]string{check: nil, watch: {"a"}},
	}, &callers)
	if err := watched(bearer("x"), calls); err != nil {
		t.Fatal(err)
	}
	if code, reason := reasonOf(watched(context.Background(), calls)); reason != "CREDENTIAL_MISSING" {
		t.Errorf("got %v %s", code, reason)
	}
	service.mu.Lock()
	service.answer = down
	service.mu.Unlock()
	if code, reason := reasonOf(watched(bearer("x"), calls)); code != codes.Unavailable ||
		reason != "VERIFIER_UNAVAILABLE" {
		t.Errorf("got %v %s", code, reason)
	}
	if !slices.Equal(callers, []string{"acme"}) {
		t.Errorf("the handlers ran for %v", callers)
	}
	if !slices.Equal(service.asked[0].GetRequiredScopes(), []string{"a"}) {
		t.Errorf("asked for %v", service.asked[0])
	}
	if agent := service.asked[0].GetUserAgent(); !strings.Contains(agent, "grpc-go") {
		t.Errorf("the program of the caller is %q", agent)
	}
	if address := service.asked[0].GetClientIp(); address != "127.0.0.1" {
		t.Errorf("the address of the caller is %q", address)
	}
}

// A name of a method takes precedence over its service, and that over all methods.
func TestRulesOfMethods(t *testing.T) {
	client := (&standin{}).client(t, NoKey())
	made, err := NewInterceptor(client, InterceptorConfig{
		Scopes: map[string][]string{"a.B/*": {"service"}, "a.B/Get": {"method"}, EveryMethod: {"all"}},
		Public: []string{"a.C/*"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for method, expected := range map[string]string{
		"/a.B/Get": "method", "/a.B/List": "service", "/a.D/Get": "all", "/a.b/Get": "all", "/a.B/Get/x": "all", "/a.C/Get/x": "all",
		"/a.C/x/../a.B/Get": "all", "a.B/Get": "method",
	} {
		if found, isListed := made.rule(method); !isListed || found.isPublic || found.scopes[0] != expected {
			t.Errorf("%s: %v", method, found)
		}
	}
	if found, _ := made.rule("/a.C/Get"); !found.isPublic {
		t.Error("not public")
	}
	empty, err := NewInterceptor(client, InterceptorConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if _, isListed := empty.rule("/a.B/Get"); isListed {
		t.Error("nothing is listed")
	}
}

// A service of any name may be behind an UnknownServiceHandler. gRPC cuts its name at the last slash.
func TestAServiceWhoseNameBeginsLikeAPublicOne(t *testing.T) {
	client := (&standin{}).client(t, NoKey())
	made, err := NewInterceptor(client, InterceptorConfig{Public: []string{"grpc.health.v1.Health/*"}})
	if err != nil {
		t.Fatal(err)
	}
	handled := make(chan string, 1)
	server := grpc.NewServer(grpc.ChainStreamInterceptor(made.Stream),
		grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
			method, _ := grpc.MethodFromServerStream(stream)
			handled <- method
			return nil
		}))
	calls := connected(t, server)
	err = calls.Invoke(context.Background(), "/grpc.health.v1.Health/x/../x.Y/Z", &emptypb.Empty{}, &emptypb.Empty{})
	if code, reason := reasonOf(err); code != codes.PermissionDenied || reason != "METHOD_NOT_LISTED" {
		t.Errorf("got %v", err)
	}
	if len(handled) > 0 {
		t.Errorf("the handler ran for %s", <-handled)
	}
}

// A mistake in the rules stops a service at its start instead of refusing calls later.
func TestRulesThatAreNone(t *testing.T) {
	client := (&standin{}).client(t, NoKey())
	for _, config := range []InterceptorConfig{
		{Scopes: map[string][]string{"Get": nil}},
		{Scopes: map[string][]string{"a.B/G*": nil}},
		{Scopes: map[string][]string{"a.B/Get": nil, "/a.B/Get": nil}},
		{Scopes: map[string][]string{"a.B/Get": nil}, Public: []string{"a.B/Get"}},
		{Scopes: map[string][]string{"a.B/Get": {""}}},
		{Public: []string{EveryMethod}},
		{Accept: []CredentialType{"keys"}},
	} {
		if _, err := NewInterceptor(client, config); !errors.Is(err, ErrInvalid) {
			t.Errorf("%v: %v", config, err)
		}
	}
	if _, err := NewInterceptor(nil, InterceptorConfig{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("no client: %v", err)
	}
	if _, err := NewMiddleware(nil, MiddlewareConfig{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("no client: %v", err)
	}
}

// Whatever goes wrong in the guard, the call is refused, and neither the log nor the caller gets the credential.
func TestAPanicKeepsEverybodyOut(t *testing.T) {
	var log bytes.Buffer
	logger, callers := slog.New(slog.NewTextHandler(&log, nil)), []string{}
	client := (&standin{}).client(t, NoKey())
	calls := guardedHealth(t, client, InterceptorConfig{
		Scopes:        map[string][]string{EveryMethod: nil},
		ClientAddress: func(context.Context) string { panic("hunter2 has no address") },
		Log:           logger,
	}, &callers)
	_, err := calls.Check(bearer("hunter2"), &healthpb.HealthCheckRequest{})
	if code, reason := reasonOf(err); code != codes.Unavailable || reason != "VERIFIER_UNAVAILABLE" {
		t.Errorf("got %v %s", code, reason)
	}
	if !strings.Contains(log.String(), "panic with string") || strings.Contains(log.String()+err.Error(), "hunter2") {
		t.Errorf("%v, logged: %s", err, log.String())
	}
	if len(callers) > 0 {
		t.Error("a handler ran")
	}
}

// A handler that another guard let through keeps nobody's identity when it is public here.
func TestPublicMethodsHaveNoCaller(t *testing.T) {
	made, err := NewInterceptor((&standin{}).client(t, NoKey()), InterceptorConfig{Public: []string{"a.B/*"}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, refused := made.admit(withIdentity(context.Background(), &Identity{OwnerID: "acme"}), "/a.B/Get")
	if refused != nil {
		t.Fatal(refused)
	}
	if _, isKnown := FromContext(ctx); isKnown {
		t.Error("there is a caller")
	}
}

// The details of a refusal have the domain of authsvc, and RetryInfo only if waiting helps.
func TestTheStatusOfARefusal(t *testing.T) {
	for _, retryAfter := range []bool{true, false} {
		refused := limited(Verdict{Code: RateLimited})
		if retryAfter {
			refused = unavailable(0)
		}
		var info *errdetails.ErrorInfo
		var retry *errdetails.RetryInfo
		for _, detail := range refused.status().Details() {
			switch detail := detail.(type) {
			case *errdetails.ErrorInfo:
				info = detail
			case *errdetails.RetryInfo:
				retry = detail
			}
		}
		if info.GetDomain() != "authsvc" || (retry != nil) != retryAfter {
			t.Errorf("%v %v", info, retry)
		}
	}
}
