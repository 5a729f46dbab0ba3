package objstore

import (
	"bytes"
	"context"
	"errors"
)

// settleTries is how often PutOnce asks again after an unknown outcome.
const settleTries = 3

// PutOnce writes data under a key that nobody writes with other bytes, like a content's or a writer's own: if the object is there with
// these bytes already, that is success, whoever wrote it. ErrExists says that it is there with others. An unknown outcome is settled by
// asking again; where that fails too the error stays ErrUnknown, and calling PutOnce again is right.
func PutOnce(ctx context.Context, s Store, key string, data []byte) (Tag, error) {
	tag, err := s.Put(ctx, key, data, IfAbsent)
	for try := 1; try < settleTries && errors.Is(err, ErrUnknown) && ctx.Err() == nil; try++ {
		if tag, again := s.Put(ctx, key, data, IfAbsent); again == nil || errors.Is(again, ErrExists) {
			err = again
			if err == nil {
				return tag, nil
			}
		}
	}
	if !errors.Is(err, ErrExists) {
		return tag, err
	}
	there, tag, err := s.Get(ctx, key)
	if err != nil {
		return "", err
	}
	if !bytes.Equal(there, data) {
		return "", &Error{Op: "put", Key: key, Kind: ErrExists, Cause: errors.New("with other bytes")}
	}
	return tag, nil
}
