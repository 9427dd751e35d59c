package authsvc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"runtime/debug"
	"sync"
	"time"
)

// The minimum time between two lines in the log about one kind of problem.
const logInterval = time.Second

// faults turns every error of a verification into a refusal that does not tell its cause, and logs it.
type faults struct {
	log *slog.Logger

	mu sync.Mutex
	// When a kind of problem was last logged, and how often it has occurred since.
	logged map[reflect.Type]logged
}

type logged struct {
	at   time.Time
	more int
}

func newFaults(log *slog.Logger) *faults {
	if log == nil {
		log = slog.Default()
	}
	return &faults{log: log, logged: map[reflect.Type]logged{}}
}

// refusal returns the refusal for an error; request names in the log what is refused.
func (f *faults) refusal(ctx context.Context, request string, err error) *refusal {
	if errors.Is(err, context.Canceled) { // nobody waits for the answer
		return unavailable(0)
	}
	if told, ok := errors.AsType[*UnavailableError](err); ok {
		f.tell(ctx, slog.LevelWarn, request, err)
		return unavailable(told.RetryAfter)
	}
	f.tell(ctx, slog.LevelError, request, err)
	return unavailable(0)
}

// panicked returns the refusal after a panic. What it said is not logged: that could contain the credential.
func (f *faults) panicked(ctx context.Context, request string, recovered any) *refusal {
	f.tell(ctx, slog.LevelError, request, &panicError{fmt.Sprintf("panic with %T\n%s", recovered, debug.Stack())})
	return unavailable(0)
}

type panicError struct{ message string }

func (p *panicError) Error() string { return p.message }

// tell logs a problem, each kind at most once per second, since in an outage every request has it.
func (f *faults) tell(ctx context.Context, level slog.Level, request string, err error) {
	kind, now := reflect.TypeOf(err), time.Now()
	f.mu.Lock()
	last := f.logged[kind]
	if !last.at.IsZero() && now.Sub(last.at) < logInterval {
		last.more++
		f.logged[kind] = last
		f.mu.Unlock()
		return
	}
	f.logged[kind] = logged{at: now}
	f.mu.Unlock()
	// A log that panics hides no refusal. gRPC recovers from no panic, so it would end the process.
	defer func() { _ = recover() }()
	f.log.Log(ctx, level, "a call cannot be authenticated",
		"call", request, "problem", err.Error(), "more_since_last_logged", last.more)
}
