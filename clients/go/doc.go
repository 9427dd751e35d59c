// Package authsvc verifies API keys and sessions with authsvc: one by one, for every call of a server of gRPC, or
// for every request of a server of HTTP.
//
//	client, err := authsvc.New("authsvc.internal:50051", authsvc.KeyFile("/run/secrets/authsvc.key"))
//	verdict, err := client.VerifyKey(ctx, presented, authsvc.Question{RequiredScopes: []string{"orders:read"}})
//
// A credential that is not valid is a verdict, not an error. An error means that the answer is not known
// ([UnavailableError]: answer 503, never 401), that authsvc refuses this client ([RefusedError]: somebody has to
// correct it), or that an argument cannot be meant ([ErrInvalid]).
//
// [Interceptor] and [Middleware] let a call or request through only after a valid verdict. No failure of the
// client, of authsvc or of the network lets one through.
//
// Nothing is cached, and calls do not share a verification. So when RevokeKey has returned, no call that is sent
// afterwards is accepted with the revoked key.
//
// A client keeps several connections, since each leads to one worker of authsvc. A call that fails with UNAVAILABLE
// is sent again on another one, within one deadline. Other RPCs of authsvc are called by the generated stubs in
// package authsvcv1, with [Client.Conn].
package authsvc
