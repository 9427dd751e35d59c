package authsvc

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// In an outage every call has the same problem, which is logged once per second, with the number of calls.
func TestAnOutageDoesNotFloodTheLog(t *testing.T) {
	var log bytes.Buffer
	found := newFaults(slog.New(slog.NewTextHandler(&log, nil)))
	for range 100 {
		found.refusal(context.Background(), "/a.B/Get", &UnavailableError{Code: codes.Unavailable, message: "told"})
	}
	found.refusal(context.Background(), "/a.B/Get", &RefusedError{Code: codes.Unauthenticated, message: "told"})
	found.refusal(context.Background(), "/a.B/Get", &UnavailableError{Code: codes.Canceled, cause: context.Canceled})
	if lines := strings.Count(log.String(), "\n"); lines != 2 {
		t.Errorf("%d lines: %s", lines, log.String())
	}
}

// A log that panics lets no call through, and does not end the process.
func TestALogThatPanics(t *testing.T) {
	service, callers := &standin{answer: down}, []string{}
	client := service.client(t, NoKey())
	for _, address := range []func(context.Context) string{nil, func(context.Context) string { panic("no address") }} {
		calls := guardedHealth(t, client, InterceptorConfig{
			Scopes:        map[string][]string{EveryMethod: nil},
			ClientAddress: address,
			Log:           slog.New(panickingLog{slog.DiscardHandler}),
		}, &callers)
		_, err := calls.Check(bearer("x"), &healthpb.HealthCheckRequest{})
		if code, reason := reasonOf(err); code != codes.Unavailable || reason != "VERIFIER_UNAVAILABLE" {
			t.Errorf("got %v %s", code, reason)
		}
	}
	if len(callers) > 0 {
		t.Error("a handler ran")
	}
}

type panickingLog struct{ slog.Handler }

func (panickingLog) Enabled(context.Context, slog.Level) bool  { return true }
func (panickingLog) Handle(context.Context, slog.Record) error { panic("the disk is full") }
