package authsvc_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	authsvc "github.com/authsvc/authsvc/clients/go"
	"github.com/authsvc/authsvc/clients/go/authsvcv1"
)

func ExampleClient_VerifyKey() {
	client, err := authsvc.New("authsvc.internal:50051", authsvc.KeyFile("/run/secrets/authsvc.key"))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	presented := "authsvc_live_…"
	verdict, err := client.VerifyKey(context.TODO(), presented, authsvc.Question{RequiredScopes: []string{"orders:read"}})
	unavailable, isUnavailable := errors.AsType[*authsvc.UnavailableError](err)
	switch {
	case isUnavailable:
		fmt.Println("503, and perhaps Retry-After:", unavailable.RetryAfter)
	case err != nil:
		log.Print("somebody has to correct this: ", err) // 503, too
	case verdict.Valid():
		fmt.Println("the orders of", verdict.OwnerID)
	case verdict.Code == authsvc.InsufficientScope:
		fmt.Println("403")
	default:
		fmt.Println("401:", verdict.Code)
	}
}

func ExampleInterceptor() {
	var client *authsvc.Client // as New returns it
	interceptor, err := authsvc.NewInterceptor(client, authsvc.InterceptorConfig{
		Scopes: map[string][]string{
			"orders.v1.Orders/*":     {"orders:read"},  // all methods of the service,
			"orders.v1.Orders/Place": {"orders:write"}, // but for this one
		},
		Public: []string{"grpc.health.v1.Health/*"},
	})
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer(
		grpc.ChainUnaryInterceptor(interceptor.Unary),
		grpc.ChainStreamInterceptor(interceptor.Stream),
	)
	_ = server // register services, and serve
}

func ExampleMiddleware() {
	var client *authsvc.Client // as New returns it
	middleware, err := authsvc.NewMiddleware(client, authsvc.MiddlewareConfig{})
	if err != nil {
		log.Fatal(err)
	}
	orders := http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		identity, _ := authsvc.FromContext(request.Context())
		_, _ = fmt.Fprintln(writer, "the orders of", identity.OwnerID)
	})
	mux := http.NewServeMux()
	mux.Handle("GET /orders", middleware.Require("orders:read")(orders))
	log.Fatal(http.ListenAndServe("localhost:8080", mux))
}

func ExampleClient_Conn() {
	var client *authsvc.Client // as New returns it
	keys := authsvcv1.NewKeyServiceClient(client.Conn())
	made, err := keys.CreateKey(context.TODO(), &authsvcv1.CreateKeyRequest{
		OwnerId:     "acme",
		DisplayName: "Orders",
		Scopes:      []string{"orders:read"},
		Expiration:  &authsvcv1.CreateKeyRequest_Ttl{Ttl: durationpb.New(90 * 24 * time.Hour)},
		RequestId:   "4f3c1f0e-6a53-4e53-9f0f-4c0d2b1f7a11", // makes it safe to retry
	})
	if refused, ok := errors.AsType[*authsvc.RefusedError](authsvc.ErrorOf(err)); ok {
		log.Fatal(refused.Reason)
	}
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(made.GetKey().GetKeyId())
}
