package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	authsvc "github.com/authsvc/authsvc/clients/go"
)

const method = "test.Target/Call"

// seen are the callers that a handler was called by: nil for nobody.
type seen []*authsvc.Identity

func (s *seen) see(ctx context.Context) {
	identity, _ := authsvc.FromContext(ctx)
	*s = append(*s, identity)
}

// guarded sends the headers of a call to a guarded handler, and returns what is wrong with the answer.
func guarded(kind string, client *authsvc.Client, made *call, expected map[string]any) []string {
	send := byGRPC
	if kind == "http" {
		send = byHTTP
	}
	var callers seen
	answer, err := send(client, made, &callers)
	if err != nil {
		return []string{err.Error()}
	}
	if admitted, _ := expected["admitted"].(bool); !admitted {
		answer["handled"] = len(callers)
		wanted := map[string]any{"handled": 0}
		for name, value := range expected[kind].(map[string]any) {
			wanted[name] = value
		}
		return differences(answer, wanted)
	}
	if len(callers) != 1 {
		return []string{fmt.Sprintf("the handler ran %d times; the answer was %v", len(callers), answer)}
	}
	shown := map[string]any{"admitted": true, "credential_id": nil}
	if caller := callers[0]; caller != nil {
		shown["credential_id"], shown["owner_id"] = caller.CredentialID, caller.OwnerID
		shown["type"] = string(caller.Type)
	}
	return differences(shown, expected)
}

func byGRPC(client *authsvc.Client, made *call, callers *seen) (map[string]any, error) {
	config := authsvc.InterceptorConfig{Scopes: map[string][]string{}, Accept: made.Accept}
	switch {
	case made.Public:
		config.Public = []string{method}
	case made.Listed == nil || *made.Listed:
		config.Scopes[method] = made.RequiredScopes
	}
	interceptor, err := authsvc.NewInterceptor(client, config)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	server := grpc.NewServer(grpc.ChainUnaryInterceptor(interceptor.Unary))
	server.RegisterService(target(callers), nil)
	go func() { _ = server.Serve(listener) }()
	defer server.Stop()
	plain := grpc.WithTransportCredentials(insecure.NewCredentials())
	connection, err := grpc.NewClient(listener.Addr().String(), plain, grpc.WithNoProxy())
	if err != nil {
		return nil, err
	}
	defer func() { _ = connection.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, header := range made.Headers {
		ctx = metadata.AppendToOutgoingContext(ctx, header[0], header[1])
	}
	return statusOf(connection.Invoke(ctx, "/"+method, &emptypb.Empty{}, &emptypb.Empty{})), nil
}

// target describes a service with one method, as generated code does.
func target(callers *seen) *grpc.ServiceDesc {
	handle := func(ctx context.Context, request any) (any, error) {
		callers.see(ctx)
		return request, nil
	}
	return &grpc.ServiceDesc{ServiceName: "test.Target", HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{{
		MethodName: "Call",
		Handler: func(
			server any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor,
		) (any, error) {
			request := &emptypb.Empty{}
			if err := decode(request); err != nil {
				return nil, err
			}
			return interceptor(ctx, request, &grpc.UnaryServerInfo{Server: server, FullMethod: "/" + method}, handle)
		},
	}}}
}

func statusOf(err error) map[string]any {
	told := status.Convert(err)
	shown := map[string]any{"code": codeName(told.Code()), "retry_seconds": nil, "required_scope": nil}
	for _, detail := range told.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			shown["reason"] = detail.GetReason()
			if scope, isNamed := detail.GetMetadata()["required_scope"]; isNamed {
				shown["required_scope"] = scope
			}
		case *errdetails.RetryInfo:
			shown["retry_seconds"] = detail.GetRetryDelay().AsDuration().Seconds()
		}
	}
	return shown
}

var parameter = regexp.MustCompile(`(\w+)="([^"]*)"`)

func byHTTP(client *authsvc.Client, made *call, callers *seen) (map[string]any, error) {
	middleware, err := authsvc.NewMiddleware(client, authsvc.MiddlewareConfig{Accept: made.Accept})
	if err != nil {
		return nil, err
	}
	handler := http.HandlerFunc(func(_ http.ResponseWriter, request *http.Request) {
		callers.see(request.Context())
	})
	server := httptest.NewServer(middleware.Require(made.RequiredScopes...)(handler))
	defer server.Close()
	request, err := http.NewRequest(http.MethodGet, server.URL+"/orders", nil)
	if err != nil {
		return nil, err
	}
	for _, header := range made.Headers {
		request.Header.Add(header[0], header[1])
	}
	response, err := server.Client().Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	shown := map[string]any{"status": float64(response.StatusCode), "error": "", "scope": "", "retry_after": nil}
	var body struct{ Reason string }
	if response.StatusCode != http.StatusOK {
		if err := json.NewDecoder(response.Body).Decode(&body); err != nil {
			return nil, err
		}
	}
	shown["reason"] = body.Reason
	for _, found := range parameter.FindAllStringSubmatch(response.Header.Get("WWW-Authenticate"), -1) {
		shown[found[1]] = found[2]
	}
	if after := response.Header.Get("Retry-After"); after != "" {
		shown["retry_after"] = after
	}
	shown["ratelimit"] = response.Header.Get("RateLimit")
	return shown, nil
}
