package authsvc

import (
	"context"
	"os"
	"path/filepath"
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
