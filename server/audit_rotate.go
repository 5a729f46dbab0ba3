package server

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/understudy-ha/understudy/api"
)

// AuditLimits bound the disk that an audit takes: about FileBytes for each of Keep+1 files.
type AuditLimits struct {
	// FileBytes: a file that has grown so long is put aside before the next entry.
	FileBytes int64
	// Keep is how many files that were put aside stay; the oldest beyond them is deleted.
	Keep int
}

// asideName matches files that were put aside; they are named by the number of their first entry.
var asideName = regexp.MustCompile(`^audit-\d{12,19}\.log$`)

func asidePath(path string, first int64) string {
	return filepath.Join(filepath.Dir(path), fmt.Sprintf("audit-%012d.log", first))
}

// auditFiles lists the files of an audit in the order they were written; path, if it exists, is the last one.
func auditFiles(path string) ([]string, error) {
	files, err := asideFiles(path)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		files = append(files, path)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("audit: %s: %w", path, fs.ErrNotExist)
	}
	return files, nil
}

// asideFiles lists those that were put aside.
func asideFiles(path string) (files []string, err error) {
	entries, err := os.ReadDir(filepath.Dir(path)) // sorted by name, and so by number
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	for _, e := range entries {
		if asideName.MatchString(e.Name()) {
			files = append(files, filepath.Join(filepath.Dir(path), e.Name()))
		}
	}
	return files, nil
}

// rotate puts the file aside and begins another one. With an error the audit goes on in the file it has.
func (a *Audit) rotate() error {
	if err := a.file.Sync(); err != nil {
		return err
	}
	aside := asidePath(a.path, a.first)
	if err := os.Rename(a.path, aside); err != nil {
		return err
	}
	next, err := os.OpenFile(a.path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return errors.Join(err, os.Rename(aside, a.path))
	}
	old, size, first, end := a.file, a.size, a.first, a.end
	a.file, a.size = next, 0
	if err := a.goOn(aside); err != nil {
		a.file, a.size, a.first, a.end = old, size, first, end
		return errors.Join(err, next.Close(), os.Rename(aside, a.path))
	}
	return old.Close()
}

// goOn writes the first entry of a file that goes on from another one, and deletes the oldest that is too much.
func (a *Audit) goOn(before string) error {
	files, err := asideFiles(a.path)
	if err != nil {
		return err
	}
	excess := files[:max(0, len(files)-a.limits.Keep)]
	detail := "goes on from " + filepath.Base(before)
	for _, file := range excess {
		detail += "; " + filepath.Base(file) + ", the oldest, is deleted"
	}
	a.first = a.end.seq + 1
	if err := a.line(api.AuditEntry{Actor: "controller", Verb: verbRotate, Outcome: "ok", Detail: detail}); err != nil {
		return err
	}
	if err := errors.Join(a.file.Sync(), syncDir(filepath.Dir(a.path))); err != nil {
		return err
	}
	for _, file := range excess {
		if err := os.Remove(file); err != nil {
			slog.Error("audit: delete the oldest file", "err", err)
		}
	}
	return nil
}

// recoverEnd takes up the chain of the file that was put aside last, if there is one: a crash came before the next one's
// first entry.
func (a *Audit) recoverEnd() error {
	files, err := asideFiles(a.path)
	if err != nil || len(files) == 0 {
		return err
	}
	last := files[len(files)-1]
	if err := readFile(last, nil, func(e api.AuditEntry) error { a.end = link{e.Seq, e.Hash}; return nil }); err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(last), err)
	}
	return a.goOn(last)
}

// Newest gives the newest n entries that match, the oldest of them first. It verifies what it reads.
func (a *Audit) Newest(n int, match func(api.AuditEntry) bool) ([]api.AuditEntry, error) {
	for {
		files, err := auditFiles(a.path)
		if err != nil {
			return nil, err
		}
		out, err := newest(files, n, match)
		again, listErr := auditFiles(a.path)
		if listErr != nil {
			return nil, listErr
		}
		if slices.Equal(files, again) { // else a file was put aside meanwhile: entries may be missing
			return out, err
		}
	}
}

func newest(files []string, n int, match func(api.AuditEntry) bool) (out []api.AuditEntry, err error) {
	for _, file := range slices.Backward(files) {
		var some []api.AuditEntry
		err := ReadAudit(file, func(e api.AuditEntry) error {
			if match(e) {
				some = append(some, e)
			}
			if len(some) > 2*n {
				some = append(some[:0], some[len(some)-n:]...)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		out = append(some, out...)
		if len(out) >= n {
			return out[len(out)-n:], nil
		}
	}
	return out, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
