package authsvc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// ErrInvalid is wrapped by every error about an argument that cannot be meant. Nothing was sent.
var ErrInvalid = errors.New("authsvc: invalid argument")

// The domain of authsvc in ErrorInfo.
const domain = "authsvc"

// UnavailableError says that a credential cannot be verified at the moment: neither accept nor reject it.
//
// With errors.Is it is context.Canceled or context.DeadlineExceeded if the context of the call has ended.
type UnavailableError struct {
	// Code is that of gRPC.
	Code codes.Code
	// Reason is authsvc's stable reason, such as LEASE_OVER, or "". CLIENT_CLOSED is this package's: the client was
	// closed.
	Reason string
	// RetryAfter is the delay that authsvc gave; 0 if it gave none.
	RetryAfter time.Duration

	message string
	cause   error
}

func (e *UnavailableError) Error() string {
	return fmt.Sprintf("authsvc cannot verify it: %s (%s)", e.message, name(e.Code))
}

// Unwrap returns the error of the context that has ended, or nil.
func (e *UnavailableError) Unwrap() error { return e.cause }

// RefusedError says that authsvc refuses this client: its own key or its request is wrong. A retry fails until
// somebody corrects the cause.
type RefusedError struct {
	// Code is that of gRPC.
	Code codes.Code
	// Reason is authsvc's stable reason, such as CREDENTIAL_REVOKED, or "". OWN_KEY_MISSING is this package's:
	// there is no key to call with.
	Reason string

	message string
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("authsvc refuses the request: %s (%s)", e.message, name(e.Code))
}

// ErrorOf returns the error of an RPC of a generated stub as *UnavailableError or *RefusedError, which have its
// reason and delay. It returns other errors, and nil, as they are.
func ErrorOf(err error) error {
	told, isStatus := status.FromError(err)
	if err == nil || !isStatus {
		return err
	}
	reason, retryAfter := details(told)
	switch told.Code() {
	case codes.Unauthenticated, codes.PermissionDenied, codes.InvalidArgument, codes.FailedPrecondition,
		codes.Unimplemented, codes.NotFound:
		return &RefusedError{Code: told.Code(), Reason: reason, message: told.Message()}
	}
	return &UnavailableError{Code: told.Code(), Reason: reason, RetryAfter: retryAfter, message: told.Message()}
}

// details returns the reason of authsvc, or "", and the delay after which to retry, or 0.
func details(told *status.Status) (reason string, retryAfter time.Duration) {
	for _, detail := range told.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			if detail.GetDomain() == domain {
				reason = detail.GetReason()
			}
		case *errdetails.RetryInfo:
			retryAfter = detail.GetRetryDelay().AsDuration()
		}
	}
	return reason, retryAfter
}

// verificationError returns the error of a verification, which has the context of its call as its cause.
func verificationError(ctx context.Context, err error) error {
	err = ErrorOf(err)
	if unavailable, ok := errors.AsType[*UnavailableError](err); ok {
		switch unavailable.Code {
		case codes.DeadlineExceeded:
			unavailable.cause = context.DeadlineExceeded
		case codes.Canceled:
			unavailable.cause = ctx.Err()
		}
	}
	return err
}

// closed returns the error of a call of a client that was closed.
func closed() error {
	told := refusal{code: codes.Canceled, message: "the client was closed", reason: "CLIENT_CLOSED"}
	return told.status().Err()
}

func invalid(format string, arguments ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, arguments...))
}

// name returns a code as it is written in protocols and documents.
func name(code codes.Code) string {
	if int(code) < len(names) {
		return names[code]
	}
	return code.String()
}

var names = [...]string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
	"PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
	"INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
}
