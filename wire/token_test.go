package wire

import (
	"crypto/sha256"
	"errors"
	"strings"
	"testing"
)

func TestToken(t *testing.T) {
	ca := []byte("certificate")
	secret, sum, err := SplitToken(JoinToken("us.0123.abc", ca))
	if err != nil || secret != "us.0123.abc" || sum != sha256.Sum256(ca) {
		t.Fatalf("got %q, %x, %v", secret, sum, err)
	}
}

func FuzzSplitToken(f *testing.F) {
	for _, s := range []string{"", ".", "us.1.2", "a." + strings.Repeat("0", 64), "." + strings.Repeat("0", 64), "a." + strings.Repeat("z", 64)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		secret, _, err := SplitToken(s)
		switch {
		case err != nil && !errors.Is(err, ErrToken):
			t.Fatalf("%q: %v", s, err)
		case err == nil && (secret == "" || len(s) != len(secret)+65):
			t.Fatalf("%q gave %q", s, secret)
		}
	})
}
