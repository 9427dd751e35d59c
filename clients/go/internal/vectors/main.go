// Command vectors runs the cases of clients/vectors.json with the client for Go. The README beside that file has the
// form of the cases, and the environment that this program needs.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"

	"google.golang.org/grpc/grpclog"
)

func main() {
	// The scripted service has no health checks, and most cases are failures: nobody wants to read of them here.
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard))
	slog.SetDefault(slog.New(slog.DiscardHandler))
	content, err := os.ReadFile(os.Getenv("AUTHSVC_VECTORS"))
	if err != nil {
		fmt.Fprintln(os.Stderr, "set AUTHSVC_VECTORS to the path of vectors.json:", err)
		os.Exit(2)
	}
	var vectors struct {
		Cases []struct {
			Name  string
			Given map[string]any
		}
	}
	if err := json.Unmarshal(content, &vectors); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	failed := 0
	for _, each := range vectors.Cases {
		if _, needsService := each.Given["service"]; needsService && os.Getenv("AUTHSVC_SERVICE") == "" {
			fmt.Printf("ok %s # SKIP no AUTHSVC_SERVICE\n", each.Name)
			continue
		}
		if problems := run(each.Name); len(problems) > 0 {
			failed++
			fmt.Printf("not ok %s: %s\n", each.Name, strings.Join(problems, "; "))
			continue
		}
		fmt.Printf("ok %s\n", each.Name)
	}
	if failed > 0 {
		os.Exit(1)
	}
}

// control asks the control of the scripted service, and reads its answer into a value.
func control(path string, answer any, query url.Values) error {
	// On this machine, whatever proxy the environment names.
	client := http.Client{Transport: &http.Transport{Proxy: nil}}
	defer client.CloseIdleConnections()
	response, err := client.Post(os.Getenv("AUTHSVC_CONTROL")+path+"?"+query.Encode(), "application/json", nil)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, content)
	}
	return json.Unmarshal(content, answer)
}
