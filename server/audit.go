package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/understudy-ha/understudy/api"
)

// refusalsPerSecond is how many refusals are written singly; those beyond are counted in one line, so that nobody fills
// the disk by knocking.
const refusalsPerSecond = 20

// Audit is one controller's record of who did what: JSON lines, each carrying the hash of the line before, so that a
// line that was changed, taken out or put in shows. A file that has grown long is put aside; the chain goes on in the next
// one. It is safe for concurrent use.
type Audit struct {
	mu     sync.Mutex
	path   string
	limits AuditLimits
	file   *os.File
	size   int64 // of the file, bytes
	first  int64 // the number of the file's first entry
	end    link
	now    func() time.Time

	second  int64 // the second that refused counts in
	refused int
}

// OpenAudit opens or creates the file. Its chain is verified, without those that were put aside before it; a last line that a
// crash cut short is taken off and noted. An error is a *BrokenChain, or the file's.
func OpenAudit(path string, limits AuditLimits, now func() time.Time) (*Audit, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	a := &Audit{path: path, limits: limits, file: f, first: 1, end: link{0, auditStart}, now: now}
	if err := errors.Join(a.takeUp(), syncDir(filepath.Dir(path))); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return a, nil
}

// takeUp finds the end of what was written.
func (a *Audit) takeUp() (err error) {
	a.size, err = readChain(a.file, nil, func(e api.AuditEntry) error {
		if a.end.seq == 0 {
			a.first = e.Seq
		}
		a.end = link{e.Seq, e.Hash}
		return nil
	})
	cut := errors.Is(err, errCutShort)
	if err != nil && !cut {
		return err
	}
	if err := errors.Join(a.file.Truncate(a.size), seek(a.file, a.size)); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	if a.size == 0 {
		if err := a.recoverEnd(); err != nil {
			return err
		}
	}
	if !cut {
		return nil
	}
	return a.Write(api.AuditEntry{Actor: "controller", Verb: "recover", Outcome: "ok", Detail: "a last line that a crash had cut short was removed"})
}

func seek(f *os.File, to int64) error {
	_, err := f.Seek(to, io.SeekStart)
	return err
}

// Write appends an entry; Seq, At, Prev and Hash are set here. What was done is on disk when it returns; refusals
// reach the disk by themselves.
func (a *Audit) Write(e api.AuditEntry) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.file == nil {
		return errors.New("audit: closed")
	}
	if e.Outcome != "ok" && !a.room() {
		return nil
	}
	if err := a.append(e); err != nil || e.Outcome != "ok" {
		return err
	}
	return a.file.Sync()
}

// room tells whether one more refusal may be written in this second. With a new second it tells of those left out.
func (a *Audit) room() bool {
	s := a.now().Unix()
	if s != a.second {
		if more := a.refused - refusalsPerSecond; more > 0 {
			_ = a.append(api.AuditEntry{Actor: "controller", Verb: "summarise", Outcome: "Refused",
				Detail: fmt.Sprintf("%d more refusals in the second of %s", more, time.Unix(a.second, 0).UTC().Format(time.RFC3339))})
		}
		a.second, a.refused = s, 0
	}
	a.refused++
	return a.refused <= refusalsPerSecond
}

// append writes an entry, into another file if this one has grown long.
func (a *Audit) append(e api.AuditEntry) error {
	if a.size >= a.limits.FileBytes {
		if err := a.rotate(); err != nil {
			slog.Error("audit: put the file aside", "err", err)
		}
	}
	return a.line(e)
}

func (a *Audit) line(e api.AuditEntry) error {
	e.Seq, e.At, e.Prev, e.Hash = a.end.seq+1, a.now().UTC(), a.end.hash, ""
	hash, err := entryHash(e)
	if err != nil {
		return err
	}
	e.Hash = hash
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	if _, err := a.file.Write(append(line, '\n')); err != nil {
		// A full disk may have taken a part: the next entry must not stand behind it.
		return fmt.Errorf("audit: %w", errors.Join(err, a.file.Truncate(a.size), seek(a.file, a.size)))
	}
	a.size, a.end = a.size+int64(len(line))+1, link{e.Seq, e.Hash}
	return nil
}

// Close syncs and closes the file.
func (a *Audit) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.file == nil {
		return nil
	}
	err := errors.Join(a.file.Sync(), a.file.Close())
	a.file = nil
	return err
}
