package engines

import (
	"context"
	"errors"
	"io"
	"os"
	"time"
)

// maxLog is how long an engine's log may get, in bytes, before it begins anew; the last half of it is kept beside it.
const maxLog = 8 << 20

// keepLogShort bounds the log of this home until ctx ends.
func (h Home) keepLogShort(ctx context.Context) {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		_ = h.trimLog(maxLog) // tried again
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// trimLog empties a log longer than limit, and keeps its last half as engine.log.1. Processes have the file open for appending, so that it must
// stay the same one; what is written while it is emptied may be lost.
func (h Home) trimLog(limit int64) error {
	f, err := os.OpenFile(h.Log(), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || st.Size() <= limit {
		return err
	}
	old, err := os.OpenFile(h.Log()+".1", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(old, io.NewSectionReader(f, st.Size()-limit/2, limit/2))
	return errors.Join(err, old.Close(), f.Truncate(0))
}
