package authsvc

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// certificate returns one for a name, which is its own authority.
func certificate(t *testing.T, name string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		DNSNames:              []string{name},
		NotAfter:              time.Now().Add(time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	made, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(made)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{made}, PrivateKey: key}, pool
}

// A service is trusted by its authority and name, and nothing is sent to one that is not.
func TestTLS(t *testing.T) {
	own, trusted := certificate(t, "authsvc.internal")
	_, others := certificate(t, "authsvc.internal")
	service := &standin{}
	address := service.serve(t, grpc.Creds(credentials.NewServerTLSFromCert(&own)))
	verified(t, made(t, address, KeyString("own"), WithDeadline(unhurried),
		WithTLS(&tls.Config{RootCAs: trusted, ServerName: "authsvc.internal"})))
	service.seen()
	for name, option := range map[string]Option{
		"the authorities of the system": WithAttempts(2), // TLS without any other option
		"another authority":             WithTLS(&tls.Config{RootCAs: others, ServerName: "authsvc.internal"}),
		"another name":                  WithTLS(&tls.Config{RootCAs: trusted, ServerName: "other.internal"}),
		"plain text":                    WithPlaintext(),
	} {
		client := made(t, address, KeyString("own"), WithDeadline(unhurried), WithAttempts(2), option)
		_, err := client.VerifyKey(context.Background(), "x", Question{})
		if _, isUnavailable := errors.AsType[*UnavailableError](err); !isUnavailable {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := New(address, NoKey(), WithTLS(&tls.Config{}), WithPlaintext()); !errors.Is(err, ErrInvalid) {
		t.Errorf("both: %v", err)
	}
	if peers := service.seen(); len(peers) > 0 {
		t.Errorf("called by %v", peers)
	}
}
