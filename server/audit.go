package server

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/understudy-ha/understudy/api"
)

// refusalsPerSecond is how many refusals are written singly; those beyond are counted in one line, so that nobody fills
// the disk by knocking.
const refusalsPerSecond = 20

// Audit is one controller's record of who did what: a file of JSON lines, each carrying the hash of the line before,
// so that a line that was changed, taken out or put in shows. It is safe for concurrent use.
type Audit struct {
	mu   sync.Mutex
	path string
	file *os.File
	seq  int64
	prev string
	now  func() time.Time

	second  int64 // the second that refused counts in
	refused int
}

// auditStart is what the first line follows.
const auditStart = "understudy-audit"

// OpenAudit opens or creates the file. The whole chain is verified; a last line that a crash cut short is
// taken off and noted. An error is a *BrokenChain, or the file's.
func OpenAudit(path string, now func() time.Time) (*Audit, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	a := &Audit{path: path, file: f, prev: auditStart, now: now}
	good, err := readChain(f, func(e api.AuditEntry) error {
		a.seq, a.prev = e.Seq, e.Hash
		return nil
	})
	cut := errors.Is(err, errCutShort)
	if err != nil && !cut {
		return nil, errors.Join(err, f.Close())
	}
	if err := errors.Join(f.Truncate(good), seek(f, good)); err != nil {
		return nil, errors.Join(fmt.Errorf("audit: %w", err), f.Close())
	}
	if cut {
		if err := a.Write(api.AuditEntry{Actor: "controller", Verb: "recover", Outcome: "ok", Detail: "a last line that a crash had cut short was removed"}); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	return a, nil
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

func (a *Audit) append(e api.AuditEntry) error {
	e.Seq, e.At, e.Prev, e.Hash = a.seq+1, a.now().UTC(), a.prev, ""
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
		return fmt.Errorf("audit: %w", err)
	}
	a.seq, a.prev = e.Seq, e.Hash
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

// Path of the file.
func (a *Audit) Path() string { return a.path }

func entryHash(e api.AuditEntry) (string, error) {
	e.Hash = ""
	b, err := json.Marshal(e)
	if err != nil {
		return "", fmt.Errorf("audit: %w", err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}

// BrokenChain says where an audit does not hold together.
type BrokenChain struct {
	Line int64
	Why  string
}

func (e *BrokenChain) Error() string { return fmt.Sprintf("audit line %d: %s", e.Line, e.Why) }

var errCutShort = errors.New("audit: the last line is cut short")

// maxAuditLine in bytes.
const maxAuditLine = 1 << 20

// readChain verifies lines and gives each to f. It returns the length of what is whole.
func readChain(r io.Reader, f func(api.AuditEntry) error) (good int64, err error) {
	prev, n := auditStart, int64(0)
	in := bufio.NewReaderSize(r, 64<<10)
	for {
		line, err := in.ReadBytes('\n')
		if err == io.EOF {
			if len(line) > 0 {
				return good, errCutShort
			}
			return good, nil
		}
		if err != nil {
			return good, err
		}
		n++
		if len(line) > maxAuditLine {
			return good, &BrokenChain{n, fmt.Sprintf("%d bytes, want at most %d", len(line), maxAuditLine)}
		}
		e, err := checkLine(line, n, prev)
		if err != nil {
			return good, err
		}
		if err := f(e); err != nil {
			return good, err
		}
		prev, good = e.Hash, good+int64(len(line))
	}
}

func checkLine(line []byte, n int64, prev string) (api.AuditEntry, error) {
	var e api.AuditEntry
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil {
		return e, &BrokenChain{n, err.Error()}
	}
	again, err := json.Marshal(e)
	if err != nil || !bytes.Equal(again, bytes.TrimSuffix(line, []byte("\n"))) {
		return e, &BrokenChain{n, "is not written as the audit writes"}
	}
	hash, err := entryHash(e)
	switch {
	case err != nil:
		return e, err
	case e.Seq != n:
		return e, &BrokenChain{n, fmt.Sprintf("has number %d", e.Seq)}
	case e.Prev != prev:
		return e, &BrokenChain{n, "does not follow the line before: that was changed, or lines are missing"}
	case e.Hash != hash:
		return e, &BrokenChain{n, "was changed after it was written"}
	}
	return e, nil
}

// ReadAudit verifies a file and gives each entry to f, which may end it with an error. A last line that is cut short is
// left out: the writer may be at it.
func ReadAudit(path string, f func(api.AuditEntry) error) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	defer file.Close()
	_, err = readChain(file, f)
	if errors.Is(err, errCutShort) {
		return nil
	}
	return err
}
