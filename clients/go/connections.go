package authsvc

import (
	"crypto/tls"
	"errors"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/health" // leaves out a worker that has said NOT_SERVING
	"google.golang.org/grpc/keepalive"
)

const serviceConfig = `{
	"loadBalancingConfig": [{"round_robin": {}}],
	"healthCheckConfig": {"serviceName": "authsvc.v1.KeyService"}
}`

// How long a connection that missed a deadline is left out, if others work.
const pauseAfterMissing = 5 * time.Second

// connection is a channel to all addresses of the target, with a connection of its own to each.
type connection struct {
	*grpc.ClientConn
	// Until when others are preferred, in nanoseconds since a client was made.
	pausedUntil atomic.Int64
}

// connections are several, used in turn. The workers of a replica share one port, and the kernel assigns each
// connection to one of them permanently.
type connections struct {
	all   []*connection
	turn  atomic.Uint64
	began time.Time

	isClosed atomic.Bool
}

// connect starts to connect, in plain text if config is nil.
func connect(target string, number int, config *tls.Config, more []grpc.DialOption) (*connections, error) {
	transport := insecure.NewCredentials()
	if config != nil {
		transport = credentials.NewTLS(config)
	}
	options := append([]grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithDefaultServiceConfig(serviceConfig),
		// What a name's TXT records say is not for whoever controls the DNS.
		grpc.WithDisableServiceConfig(),
		// Otherwise the proxy in https_proxy would get our key in plain text, and could impersonate authsvc.
		grpc.WithNoProxy(),
		// Retries are on another connection, by Invoke.
		grpc.WithDisableRetry(),
		// authsvc accepts a ping every five seconds.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: 20 * time.Second, Timeout: 5 * time.Second, PermitWithoutStream: true,
		}),
		// By default, gRPC waits for up to two minutes before it reconnects.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second,
			},
			MinConnectTimeout: 2 * time.Second,
		}),
		// A connection that is not used is not closed.
		grpc.WithIdleTimeout(0),
	}, more...)
	opened := &connections{began: time.Now()}
	for range number {
		made, err := grpc.NewClient(target, options...)
		if err != nil {
			return nil, errors.Join(invalid("the target: %v", err), opened.close())
		}
		made.Connect()
		opened.all = append(opened.all, &connection{ClientConn: made})
	}
	return opened, nil
}

// next returns the next connection that is ready and not paused, or else is ready, or else the next one.
func (c *connections) next() *connection {
	first, now := c.turn.Add(1), int64(time.Since(c.began))
	var ready *connection
	for ahead := range uint64(len(c.all)) {
		found := c.all[(first+ahead)%uint64(len(c.all))]
		if found.GetState() != connectivity.Ready {
			continue
		}
		if found.pausedUntil.Load() <= now {
			return found
		}
		if ready == nil {
			ready = found
		}
	}
	if ready != nil {
		return ready
	}
	return c.all[first%uint64(len(c.all))]
}

// pause prefers other connections for a while, because a call on this one was not answered in time.
func (c *connections) pause(missed *connection) {
	missed.pausedUntil.Store(int64(time.Since(c.began) + pauseAfterMissing))
}

func (c *connections) close() error {
	c.isClosed.Store(true)
	var failed error
	for _, each := range c.all {
		failed = errors.Join(failed, each.Close())
	}
	return failed
}
