package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	authsvc "github.com/authsvc/authsvc/clients/go"
	_ "github.com/authsvc/authsvc/clients/go/authsvcv1" // registers the messages of RPCs
)

func unmarshal(content []byte, value any) error { return json.Unmarshal(content, value) }

// outcome makes a call, and returns the verdict, the response or the error, in the names of the cases.
func (c *call) outcome(client *authsvc.Client) map[string]any {
	ctx := context.Background()
	if c.DeadlineSeconds != nil {
		limited, cancel := context.WithTimeout(ctx, time.Duration(*c.DeadlineSeconds*float64(time.Second)))
		defer cancel()
		ctx = limited
	}
	question := authsvc.Question{
		RequiredScopes: c.RequiredScopes,
		AnyOfScopes:    c.AnyOfScopes,
		ClientIP:       c.ClientIP,
		UserAgent:      c.UserAgent,
		Cost:           c.Cost,
	}
	var verdict authsvc.Verdict
	var err error
	switch c.Method {
	case "verify_key":
		verdict, err = client.VerifyKey(ctx, c.Credential, question)
	case "verify_session":
		verdict, err = client.VerifySession(ctx, c.Credential, question)
	case "verify_token":
		verdict, err = client.VerifyToken(ctx, c.Credential, c.Audience, question)
	case "rpc":
		return c.rpc(ctx, client)
	default:
		err = fmt.Errorf("no such method: %s", c.Method)
	}
	if err != nil {
		return outcomeOf(err)
	}
	return shown(verdict)
}

// rpc makes a call by the names of its messages, as generated stubs do.
func (c *call) rpc(ctx context.Context, client *authsvc.Client) map[string]any {
	service, name, _ := strings.Cut(c.RPC, "/")
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service))
	if err != nil {
		return outcomeOf(err)
	}
	method := found.(protoreflect.ServiceDescriptor).Methods().ByName(protoreflect.Name(name))
	request, response := message(method.Input()), message(method.Output())
	content, err := json.Marshal(c.Request)
	if err == nil {
		err = protojson.Unmarshal(content, request)
	}
	if err == nil {
		err = client.Conn().Invoke(ctx, "/"+c.RPC, request, response)
	}
	if err != nil {
		return outcomeOf(authsvc.ErrorOf(err))
	}
	told := map[string]any{}
	content, err = protojson.MarshalOptions{UseProtoNames: true}.Marshal(response)
	if err == nil {
		err = json.Unmarshal(content, &told)
	}
	if err != nil {
		return outcomeOf(err)
	}
	return map[string]any{"response": told}
}

func message(of protoreflect.MessageDescriptor) proto.Message {
	kind, err := protoregistry.GlobalTypes.FindMessageByName(of.FullName())
	if err != nil {
		panic(err)
	}
	return kind.New().Interface()
}

func outcomeOf(err error) map[string]any {
	if unavailable, ok := errors.AsType[*authsvc.UnavailableError](err); ok {
		return map[string]any{
			"error":               "Unavailable",
			"code":                codeName(unavailable.Code),
			"reason":              unavailable.Reason,
			"retry_after_seconds": seconds(unavailable.RetryAfter),
		}
	}
	if refused, ok := errors.AsType[*authsvc.RefusedError](err); ok {
		return map[string]any{"error": "Refused", "code": codeName(refused.Code), "reason": refused.Reason}
	}
	if errors.Is(err, authsvc.ErrInvalid) {
		return map[string]any{"error": "Invalid"}
	}
	return map[string]any{"error": err.Error()}
}

func shown(verdict authsvc.Verdict) map[string]any {
	told := map[string]any{
		"valid":               verdict.Valid(),
		"code":                string(verdict.Code),
		"type":                string(verdict.Type),
		"credential_id":       verdict.CredentialID,
		"owner_id":            verdict.OwnerID,
		"scopes":              list(verdict.Scopes),
		"annotations":         map[string]any{},
		"expire_time":         nil,
		"credits_remaining":   nil,
		"retry_after_seconds": seconds(verdict.RetryAfter),
		"rate_limits":         []any{},
	}
	for name, value := range verdict.Annotations {
		told["annotations"].(map[string]any)[name] = value
	}
	if !verdict.ExpireTime.IsZero() {
		told["expire_time"] = verdict.ExpireTime.UTC().Format(time.RFC3339)
	}
	if verdict.CreditsRemaining != nil {
		told["credits_remaining"] = float64(*verdict.CreditsRemaining)
	}
	for _, limit := range verdict.RateLimits {
		told["rate_limits"] = append(told["rate_limits"].([]any), map[string]any{
			"name":           limit.Name,
			"limit":          float64(limit.Limit),
			"period_seconds": limit.Period.Seconds(),
			"remaining":      float64(limit.Remaining),
			"reset_seconds":  limit.Reset.Seconds(),
			"of_owner":       limit.OfOwner,
		})
	}
	return told
}

func list(texts []string) []any {
	made := []any{}
	for _, text := range texts {
		made = append(made, text)
	}
	return made
}

// seconds returns null for no delay.
func seconds(delay time.Duration) any {
	if delay == 0 {
		return nil
	}
	return delay.Seconds()
}

func codeName(code codes.Code) string {
	name := ""
	for position, character := range code.String() {
		if position > 0 && 'A' <= character && character <= 'Z' {
			name += "_"
		}
		name += string(character)
	}
	if code == codes.Canceled {
		return "CANCELLED"
	}
	return strings.ToUpper(name)
}
