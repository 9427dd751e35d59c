// Command example is a small service of HTTP. GET /orders needs a key with the scope orders:read.
package main

import (
	"fmt"
	"log"
	"net/http"
	"os"

	authsvc "github.com/authsvc/authsvc/clients/go"
)

func main() {
	// The service's own key. `make run` serves on this machine in plain text; elsewhere, leave out WithPlaintext.
	client, err := authsvc.New("127.0.0.1:50051", authsvc.KeyFile(os.Args[1]), authsvc.WithPlaintext())
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	middleware, err := authsvc.NewMiddleware(client, authsvc.MiddlewareConfig{})
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /orders", middleware.Require("orders:read")(http.HandlerFunc(orders)))
	log.Print("serving on http://127.0.0.1:8090/orders")
	log.Fatal(http.ListenAndServe("127.0.0.1:8090", mux))
}

func orders(writer http.ResponseWriter, request *http.Request) {
	identity, _ := authsvc.FromContext(request.Context())
	_, _ = fmt.Fprintf(writer, "the orders of %s\n", identity.OwnerID)
}
