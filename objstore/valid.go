package objstore

import (
	"fmt"
	"strings"
)

// ValidKey gives nil or an ErrInvalid that says what is wrong. A key is 1 to MaxKey bytes: segments of 1 to MaxSegment bytes of
// [a-zA-Z0-9._-] between single slashes. No segment begins with a dot, and ".." is nowhere.
//
// No key may be another's directory: with "a/b" there is no "a". Stores on file systems refuse that; the others need not.
func ValidKey(op, key string) error {
	bad := func(format string, args ...any) error {
		return &Error{Op: op, Key: printable(key), Kind: ErrInvalid, Cause: fmt.Errorf(format, args...),
			Hint: "a key is segments of [a-zA-Z0-9._-] between single slashes"}
	}
	switch {
	case key == "" || len(key) > MaxKey:
		return bad("the key has %d bytes, want 1 to %d", len(key), MaxKey)
	case strings.Contains(key, ".."):
		return bad(`the key has ".."`)
	}
	for seg := range strings.SplitSeq(key, "/") {
		switch {
		case seg == "" || len(seg) > MaxSegment:
			return bad("a segment of the key has %d bytes, want 1 to %d", len(seg), MaxSegment)
		case seg[0] == '.':
			return bad("the segment %q begins with a dot", printable(seg))
		}
	}
	if i := strings.IndexFunc(key, func(r rune) bool { return r != '/' && !keyRune(r) }); i >= 0 {
		return bad("the key has %q at byte %d", key[i], i)
	}
	return nil
}

func keyRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' || r == '-'
}

// ValidPrefix gives nil, or an ErrInvalid where no key can begin so.
func ValidPrefix(op, prefix string) error {
	if prefix == "" {
		return nil
	}
	return ValidKey(op, strings.TrimSuffix(prefix, "/"))
}

// ValidRange gives nil or an ErrInvalid.
func ValidRange(op, key string, off, n int64) error {
	if err := ValidKey(op, key); err != nil {
		return err
	}
	if off < 0 || n < 1 || n > MaxObject || off > MaxObject {
		return &Error{Op: op, Key: key, Kind: ErrInvalid, Cause: fmt.Errorf("offset %d, length %d", off, n),
			Hint: fmt.Sprintf("want an offset of 0 or more, and 1 to %d bytes", MaxObject)}
	}
	return nil
}

// ValidPut gives nil or an ErrInvalid.
func ValidPut(op, key string, size int, cond Cond) error {
	if err := ValidKey(op, key); err != nil {
		return err
	}
	if size > MaxObject {
		return &Error{Op: op, Key: key, Kind: ErrInvalid, Cause: fmt.Errorf("%d bytes", size), Hint: fmt.Sprintf("an object has at most %d", MaxObject)}
	}
	if tag, ok := cond.Match(); ok && tag == "" {
		return &Error{Op: op, Key: key, Kind: ErrInvalid, Cause: fmt.Errorf("if-match of an empty tag"), Hint: "use the tag that a Get, Head or Put gave"}
	}
	return nil
}

// printable keeps what an error repeats of a refused key short and on one line.
func printable(s string) string {
	if len(s) > 80 {
		s = s[:80] + "…"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}
