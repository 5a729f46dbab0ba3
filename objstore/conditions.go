package objstore

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
)

// ErrUnconditional says that a store writes though a condition does not hold. Nothing that must have one writer may lie in it.
var ErrUnconditional = errors.New("the store does not keep conditions")

// CheckConditions asks a store whether it keeps the conditions of Put, by an object that it takes away again. There are servers that take
// the headers and ignore them: everything would work on them until two writers meet. Any other error says that the store could not be asked.
func CheckConditions(ctx context.Context, s Store) error {
	name := make([]byte, 8)
	rand.Read(name)
	key := "conditions-" + hex.EncodeToString(name)
	first, err := PutOnce(ctx, s, key, []byte("first"))
	if err != nil {
		return err
	}
	defer func() { _ = s.Delete(context.WithoutCancel(ctx), key) }()
	if err := refuses(ctx, s, key, IfAbsent, ErrExists); err != nil {
		return err
	}
	if _, err := s.Put(ctx, key, []byte("second"), IfMatch(first)); err != nil {
		return err
	}
	return refuses(ctx, s, key, IfMatch(first), ErrChanged)
}

func refuses(ctx context.Context, s Store, key string, cond Cond, want error) error {
	_, err := s.Put(ctx, key, []byte("never"), cond)
	switch {
	case errors.Is(err, want):
		return nil
	case err != nil:
		return err
	}
	return &Error{Op: "put", Key: key, Kind: ErrUnconditional, Cause: errors.New("it wrote " + cond.String() + ", which did not hold"),
		Hint: "use one that has conditional writes (If-None-Match and If-Match)"}
}
