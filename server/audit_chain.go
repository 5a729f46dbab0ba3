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

	"github.com/understudy-ha/understudy/api"
)

// auditStart is what the first line of all follows.
const auditStart = "understudy-audit"

// verbRotate is the first entry of a file that goes on from another one.
const verbRotate = "rotate"

// link is the end of a chain: the number and the hash of its last line.
type link struct {
	seq  int64
	hash string
}

// BrokenChain says where an audit does not hold together.
type BrokenChain struct {
	Line int64 // of the file, from 1
	Why  string
}

func (e *BrokenChain) Error() string { return fmt.Sprintf("audit line %d: %s", e.Line, e.Why) }

var errCutShort = errors.New("audit: the last line is cut short")

// maxAuditLine in bytes.
const maxAuditLine = 1 << 20

// readChain verifies lines, which follow after, and gives each to f. With nil they may go on from a file that is not there,
// if the first of them says so. It returns the length of what is whole.
func readChain(r io.Reader, after *link, f func(api.AuditEntry) error) (good int64, err error) {
	in := bufio.NewReaderSize(r, 64<<10)
	for n := int64(1); ; n++ {
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
		if len(line) > maxAuditLine {
			return good, &BrokenChain{n, fmt.Sprintf("%d bytes, want at most %d", len(line), maxAuditLine)}
		}
		e, err := checkLine(line, n, after)
		if err != nil {
			return good, err
		}
		if err := f(e); err != nil {
			return good, err
		}
		after, good = &link{e.Seq, e.Hash}, good+int64(len(line))
	}
}

func checkLine(line []byte, n int64, after *link) (api.AuditEntry, error) {
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
	if after == nil {
		after = &link{0, auditStart}
		if e.Verb == verbRotate && e.Seq > 1 {
			after = &link{e.Seq - 1, e.Prev}
		}
	}
	hash, err := entryHash(e)
	switch {
	case err != nil:
		return e, err
	case e.Seq != after.seq+1:
		return e, &BrokenChain{n, fmt.Sprintf("has number %d, want %d", e.Seq, after.seq+1)}
	case e.Prev != after.hash:
		return e, &BrokenChain{n, "does not follow the line before: that was changed, or lines are missing"}
	case e.Hash != hash:
		return e, &BrokenChain{n, "was changed after it was written"}
	}
	return e, nil
}

func entryHash(e api.AuditEntry) (string, error) {
	e.Hash = ""
	b, err := json.Marshal(e)
	if err != nil {
		return "", fmt.Errorf("audit: %w", err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}

// ReadAudit verifies one file by itself and gives each entry to f, which may end it with an error. A last line that is
// cut short is left out: the writer may be at it.
func ReadAudit(path string, f func(api.AuditEntry) error) error {
	err := readFile(path, nil, f)
	if errors.Is(err, errCutShort) {
		return nil
	}
	return err
}

// ReadAuditFiles verifies the file that is written to and all those that were put aside before it, as one chain, and
// gives each entry to f, the oldest first.
func ReadAuditFiles(path string, f func(api.AuditEntry) error) error {
	files, err := auditFiles(path)
	if err != nil {
		return err
	}
	var after *link
	for _, file := range files {
		err := readFile(file, after, func(e api.AuditEntry) error {
			after = &link{e.Seq, e.Hash}
			return f(e)
		})
		if errors.Is(err, errCutShort) {
			if file == path {
				return nil
			}
			err = &BrokenChain{after.seq + 1, "is cut short, in a file that was put aside"}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(file), err)
		}
	}
	return nil
}

func readFile(path string, after *link, f func(api.AuditEntry) error) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	defer file.Close()
	_, err = readChain(file, after, f)
	return err
}
