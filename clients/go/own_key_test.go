package authsvc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func written(t *testing.T, content string) (string, *fileKey) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "authsvc.key")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, KeyFile(file).(*fileKey)
}

func headerOf(t *testing.T, key OwnKey) string {
	t.Helper()
	header, err := key.header(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return header
}

// The formats of editors and shells on Windows.
func TestAKeyFileMayHaveAByteOrderMark(t *testing.T) {
	for _, content := range []string{
		"own\n", "\ufeffown\r\n", "\xff\xfeo\x00w\x00n\x00\r\x00\n\x00", "\xfe\xff\x00o\x00w\x00n\x00\n",
	} {
		if _, key := written(t, content); headerOf(t, key) != "Bearer own" {
			t.Errorf("%q", content)
		}
	}
}

// Two writes within one tick of the file system's clock cannot be told apart, so a new file is read each time.
func TestAKeyFileThatIsWrittenTwiceAtOnce(t *testing.T) {
	file, key := written(t, "one")
	soon := time.Now().Add(time.Hour)
	for _, content := range []string{"one", "two"} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, soon, soon); err != nil {
			t.Fatal(err)
		}
		if found := headerOf(t, key); found != "Bearer "+content {
			t.Errorf("sent %q instead of %q", found, content)
		}
	}
}

// An old file that is replaced by another one of the same size and time is read anew; otherwise it is not read.
func TestAnOldKeyFile(t *testing.T) {
	file, key := written(t, "one")
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(file, old, old); err != nil {
		t.Fatal(err)
	}
	if headerOf(t, key) != "Bearer one" || key.from == nil {
		t.Error("an old file is kept")
	}
	other, _ := written(t, "two")
	if err := os.Chtimes(other, old, old); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(other, file); err != nil {
		t.Fatal(err)
	}
	if found := headerOf(t, key); found != "Bearer two" {
		t.Errorf("sent %q", found)
	}
}

// A key appears in no text form of a client, a key or an error.
func TestKeysAreNotShown(t *testing.T) {
	key := KeyString("hunter2")
	client := made(t, "127.0.0.1:1", key, WithPlaintext(), WithAttempts(1), WithDeadline(unhurried))
	_, err := client.VerifyKey(context.Background(), "hunter3", Question{})
	if err == nil {
		t.Fatal("nobody listens")
	}
	_, fromFile := written(t, "hunter2")
	headerOf(t, fromFile)
	config := struct{ Key, key, file OwnKey }{key, key, fromFile} // of fields like key, fmt calls no methods
	for _, value := range []any{client, client.Conn(), key, fromFile, config, &config, err} {
		for _, verb := range strings.Fields("%v %+v %#v %s %q %x %X %d %b %o %c %t %e %g %U %w %p %T %z") {
			shown := fmt.Sprintf(verb, value)
			for _, secret := range []string{"hunter", fmt.Sprintf("%x", "hunter"), fmt.Sprintf("%X", "hunter")} {
				if strings.Contains(shown, secret) {
					t.Errorf("%s of %T: %s", verb, value, shown)
				}
			}
		}
	}
}

// What a function says of its failure could contain the key: only the type of its error is shown.
func TestTheErrorOfAFunctionIsNotShown(t *testing.T) {
	var log bytes.Buffer
	client := (&standin{}).client(t, KeyFunc(func(context.Context) (string, error) {
		return "", fmt.Errorf("cannot parse %q", "authsvc_live_SECRET")
	}))
	_, err := client.VerifyKey(context.Background(), "x", Question{})
	newFaults(slog.New(slog.NewTextHandler(&log, nil))).refusal(context.Background(), "/a.B/Get", err)
	shown := log.String()
	for ; err != nil; err = errors.Unwrap(err) {
		shown += fmt.Sprintf("%v %+v %#v %s %d", err, err, err, err, err)
	}
	if strings.Contains(shown, "SECRET") || !strings.Contains(log.String(), "*errors.errorString") {
		t.Error(shown)
	}
}

// A function is called for each attempt. Its failure is Refused, and nothing is sent.
func TestAKeyIsAskedFor(t *testing.T) {
	service, number := &standin{}, 0
	client := service.client(t, KeyFunc(func(context.Context) (string, error) {
		number++
		if number == 3 {
			return "", errors.New("no vault")
		}
		return fmt.Sprint("key", number), nil
	}))
	verified(t, client)
	verified(t, client)
	_, err := client.VerifyKey(context.Background(), "x", Question{})
	refused, isRefused := errors.AsType[*RefusedError](err)
	if !isRefused || refused.Reason != "OWN_KEY_MISSING" || !strings.Contains(err.Error(), "*errors.errorString") {
		t.Errorf("got %v", err)
	}
	if expected := []string{"Bearer key1", "Bearer key2"}; !slices.Equal(service.keys, expected) {
		t.Errorf("sent %v", service.keys)
	}
}
