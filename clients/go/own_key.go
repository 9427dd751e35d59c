package authsvc

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
)

// OwnKey is what a client calls authsvc with. Printing one does not show the key.
type OwnKey interface {
	// header returns the value of the authorization header for a call, or "" for none.
	header(ctx context.Context) (string, error)
}

// KeyString is a key string itself. Prefer [KeyFile]: a key in a file can be rotated without a restart.
func KeyString(keyString string) OwnKey { return &fixedKey{kept(keyString)} }

// KeyFile is a file that contains the key string. It is read again when it has changed. If it is missing, empty or
// partly written, the last key from it is used. It may begin with a byte order mark.
func KeyFile(path string) OwnKey { return &fileKey{path: path} }

// KeyFunc is a function that returns the current key string. It is called for each attempt, in any goroutine. Of its
// error only the type is shown, since the text could contain the key.
func KeyFunc(key func(context.Context) (string, error)) OwnKey { return &calledKey{key} }

// NoKey is for a client that its certificate authenticates.
func NoKey() OwnKey { return noKey{} }

// A file that is written again after this time certainly has another modification time.
const modTimeGranularity = 2 * time.Second

var errNotAKey = errors.New(
	"it is empty or has characters that no key string has; check that it was copied completely")

// secret keeps a text from fmt, which shows fields for some verbs, and whenever it may not call methods.
type secret func() string

func kept(text string) secret { return func() string { return text } }

type fixedKey struct{ keyString secret }

func (k *fixedKey) header(context.Context) (string, error) { return authorization(k.keyString()) }
func (k *fixedKey) String() string                         { return "a key string" }
func (k *fixedKey) GoString() string                       { return k.String() }

// check returns the error for a text that is not a key string.
func (k *fixedKey) check() error {
	if text := k.keyString(); strings.HasPrefix(text, "~") || strings.ContainsAny(text, `/\`) {
		return invalid("the key looks like a path; to read the key from a file, pass KeyFile")
	}
	if _, err := authorization(k.keyString()); err != nil {
		return invalid("the client's own key: %v", err)
	}
	return nil
}

type noKey struct{}

func (noKey) header(context.Context) (string, error) { return "", nil }

type calledKey struct {
	key func(context.Context) (string, error)
}

func (k *calledKey) header(ctx context.Context) (string, error) {
	keyString, err := k.key(ctx)
	if err != nil {
		return "", ownKeyMissing(fmt.Sprintf("the function has returned an error of the type %T", err))
	}
	header, err := authorization(keyString)
	if err != nil {
		return "", ownKeyMissing(err.Error())
	}
	return header, nil
}

type fileKey struct {
	path string

	mu sync.Mutex
	// What was last read, and of which file; nil if it has to be read again.
	last secret
	from fs.FileInfo
}

func (k *fileKey) String() string   { return "the key in " + k.path }
func (k *fileKey) GoString() string { return k.String() }

func (k *fileKey) header(context.Context) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.read(); err != nil && k.last == nil {
		return "", ownKeyMissing(err.Error())
	}
	return k.last(), nil
}

// read reads the file if it has changed. Usually, this takes one stat. A file that was written only just now could be
// written again with the same modification time, so it is read again the next time.
func (k *fileKey) read() error {
	found, err := os.Stat(k.path)
	if err != nil {
		return withoutPath(err)
	}
	if k.from != nil && os.SameFile(k.from, found) && k.from.Size() == found.Size() &&
		k.from.ModTime().Equal(found.ModTime()) {
		return nil
	}
	content, err := os.ReadFile(k.path)
	if err != nil {
		return withoutPath(err)
	}
	header, err := authorization(decoded(content))
	if err != nil {
		return err
	}
	k.last, k.from = kept(header), nil
	if time.Since(found.ModTime()) > modTimeGranularity {
		k.from = found
	}
	return nil
}

// withoutPath returns what is wrong with a file. Where secrets are is nobody's business.
func withoutPath(err error) error {
	if told, ok := errors.AsType[*fs.PathError](err); ok {
		return told.Err
	}
	return err
}

// decoded returns the text of a key file. Editors and shells on Windows write a byte order mark first.
func decoded(content []byte) string {
	var order binary.ByteOrder
	switch {
	case bytes.HasPrefix(content, []byte("\xff\xfe")):
		order = binary.LittleEndian
	case bytes.HasPrefix(content, []byte("\xfe\xff")):
		order = binary.BigEndian
	default:
		return strings.TrimPrefix(string(content), "\ufeff")
	}
	var units []uint16
	for rest := content[2:]; len(rest) >= 2; rest = rest[2:] {
		units = append(units, order.Uint16(rest))
	}
	return string(utf16.Decode(units))
}

// authorization returns the header. Its error does not contain the key.
func authorization(keyString string) (string, error) {
	bare := strings.TrimSpace(keyString)
	if bare == "" || !isPrintable(bare) || strings.Contains(bare, " ") {
		return "", errNotAKey
	}
	return "Bearer " + bare, nil
}

// isPrintable says whether a text has only printable characters of ASCII, which include the space.
func isPrintable(text string) bool {
	for _, character := range text {
		if character < ' ' || character >= 0x7f || character == utf8.RuneError {
			return false
		}
	}
	return true
}

func ownKeyMissing(problem string) error {
	return &RefusedError{
		Code:    codes.Unauthenticated,
		Reason:  "OWN_KEY_MISSING",
		message: "cannot get the client's own key: " + problem,
	}
}

// withKey returns the context of a call with the header. One that the context has is replaced.
func withKey(ctx context.Context, key OwnKey) (context.Context, error) {
	header, err := key.header(ctx)
	if err != nil {
		return nil, err
	}
	headers, _ := metadata.FromOutgoingContext(ctx)
	headers = headers.Copy()
	if headers == nil {
		headers = metadata.MD{}
	}
	headers.Delete("authorization")
	if header != "" {
		headers.Set("authorization", header)
	}
	return metadata.NewOutgoingContext(ctx, headers), nil
}
