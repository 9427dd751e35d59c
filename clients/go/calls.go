package authsvc

import (
	"context"
	"math/rand/v2"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// The longest pause before the second attempt, and before any later one.
	firstPause, maxPause = 50 * time.Millisecond, time.Second
	// A change is answered when every worker acts on it. If one is cut off, that takes a lease: 36 s by default.
	otherDeadline = time.Minute
	// A worker that does not answer within this time may be hanging. Missing a shorter deadline proves nothing.
	hangingAfter = 100 * time.Millisecond

	api = "/authsvc.v1."
)

// verifications change nothing that another attempt could double, except the units of a cost.
var verifications = map[string]bool{
	api + "KeyService/VerifyKey":         true,
	api + "KeyService/BatchVerifyKeys":   true,
	api + "KeyService/VerifyToken":       true,
	api + "SessionService/VerifySession": true,
}

// revocations are final. Another attempt may be told that it is done: KEY_ALREADY_REVOKED.
var revocations = map[string]bool{
	api + "KeyService/RevokeKey":         true,
	api + "SessionService/RevokeSession": true,
}

// calls makes the calls of generated stubs: with the client's own key, a deadline, and other attempts.
type calls struct {
	connections *connections
	ownKey      OwnKey
	deadline    time.Duration
	attempts    int
}

// Invoke calls until there is an answer, no attempts are left, or the deadline would pass.
//
// Only UNAVAILABLE is retried, almost at once, since another worker may be able to answer: its RetryInfo is about
// the worker that sent it. RESOURCE_EXHAUSTED is not retried, since an overloaded service needs fewer calls.
func (c *calls) Invoke(ctx context.Context, method string, request, response any, options ...grpc.CallOption) error {
	ctx, cancel := c.within(ctx, method)
	defer cancel()
	for attempt := 1; ; attempt++ {
		if err := ctx.Err(); err != nil {
			return status.FromContextError(err).Err()
		}
		err := c.once(ctx, method, request, response, options)
		if err != nil && c.connections.isClosed.Load() {
			return closed()
		}
		if status.Code(err) != codes.Unavailable || attempt == c.attempts || !isRepeatable(method, request) {
			return err
		}
		pause := pauseAfter(attempt, rand.Float64())
		if ends, _ := ctx.Deadline(); !time.Now().Add(pause).Before(ends) {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}
}

func (c *calls) once(ctx context.Context, method string, request, response any, options []grpc.CallOption) error {
	keyed, err := withKey(ctx, c.ownKey)
	if err != nil {
		return err
	}
	on, began := c.connections.next(), time.Now()
	err = on.Invoke(keyed, method, request, response, options...)
	if status.Code(err) == codes.DeadlineExceeded && time.Since(began) > hangingAfter {
		c.connections.pause(on)
	}
	return err
}

// NewStream begins a stream on one connection. It is not retried, and has no deadline by default.
func (c *calls) NewStream(
	ctx context.Context, desc *grpc.StreamDesc, method string, options ...grpc.CallOption,
) (grpc.ClientStream, error) {
	if c.connections.isClosed.Load() {
		return nil, closed()
	}
	keyed, err := withKey(ctx, c.ownKey)
	if err != nil {
		return nil, err
	}
	return c.connections.next().NewStream(keyed, desc, method, options...)
}

// within returns the context of a call with a deadline: its own, or that of its kind.
func (c *calls) within(ctx context.Context, method string) (context.Context, context.CancelFunc) {
	if _, isSet := ctx.Deadline(); isSet {
		return ctx, func() {}
	}
	if verifications[method] {
		return context.WithTimeout(ctx, c.deadline)
	}
	return context.WithTimeout(ctx, otherDeadline)
}

// isRepeatable says whether to send a call again whose first attempt may have been carried out.
func isRepeatable(method string, request any) bool {
	if verifications[method] || revocations[method] {
		return true
	}
	if made, ok := request.(interface{ GetRequestId() string }); ok && made.GetRequestId() != "" {
		return true
	}
	rpc := method[strings.LastIndex(method, "/")+1:]
	for _, reading := range []string{"Get", "List", "Lookup", "Preview"} {
		if strings.HasPrefix(rpc, reading) {
			return strings.HasPrefix(method, api)
		}
	}
	return false
}

// pauseAfter returns how long to wait after attempt 1, 2, …: exponential backoff, of which spread (from 0 to 1) is
// half.
func pauseAfter(attempt int, spread float64) time.Duration {
	longest := min(maxPause, firstPause<<min(attempt-1, 16))
	return time.Duration(float64(longest) * (0.5 + 0.5*spread))
}
