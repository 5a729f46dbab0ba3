package replication

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/understudy-ha/understudy/journal"
)

// spoolFile is one file of a spool. Its last record and size change only while it is the newest.
type spoolFile struct {
	number uint64
	f      *os.File
	start  int64  // of the first frame
	size   int64  // bytes, whole frames only
	base   uint64 // last position before the file
	last   uint64 // last position in it; base if it has no records
}

// frame is one batch as it lies in a spool.
type frame struct {
	first, last uint64
	arrived     time.Time
	recs        []journal.Record // parts of one buffer of their own
	bytes       int
}

// fsync makes a file or directory durable. The power cut's test listens in.
var fsync = (*os.File).Sync

func fileName(number uint64) string { return fmt.Sprintf("%016x%s", number, spoolSuffix) }

func fileNumber(name string) (uint64, bool) {
	hex, ok := strings.CutSuffix(name, spoolSuffix)
	n, err := strconv.ParseUint(hex, 16, 64)
	return n, ok && err == nil && fileName(n) == name
}

// createFile makes an empty file whose name and head outlive a power cut.
func createFile(dir string, h *fileHeader) (*spoolFile, error) {
	head, err := h.encode()
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, fileName(h.number))
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = f.WriteAt(head, 0)
	if err == nil {
		err = fsync(f)
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(path))
	}
	return &spoolFile{number: h.number, f: f, start: int64(len(head)), size: int64(len(head)), base: h.base, last: h.base}, nil
}

// openFile reads a file's head. An error is errTorn if there is no whole one.
func openFile(path string) (*spoolFile, *fileHeader, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, nil, err
	}
	h, n, err := readHeader(f)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("%s: %w", filepath.Base(path), err), f.Close())
	}
	return &spoolFile{number: h.number, f: f, start: n, size: n, base: h.base, last: h.base}, h, nil
}

func readHeader(f io.ReaderAt) (*fileHeader, int64, error) {
	var fixed [fileHead]byte
	if _, err := f.ReadAt(fixed[:], 0); err != nil {
		return nil, 0, shortIsTorn(err)
	}
	n, err := headLength(fixed[:])
	if err != nil {
		return nil, 0, err
	}
	b := make([]byte, n)
	if _, err := f.ReadAt(b, 0); err != nil {
		return nil, 0, shortIsTorn(err)
	}
	h, err := decodeHeader(b)
	return h, int64(n), err
}

// readFrame reads the frame at an offset whose first record has to follow position after. errTorn: there is no whole one.
func readFrame(f io.ReaderAt, off int64, after uint64) (*frame, error) {
	var head [frameHead]byte
	if _, err := f.ReadAt(head[:], off); err != nil {
		return nil, shortIsTorn(err)
	}
	n, arrived, err := decodeFrameHead(head[:])
	if err != nil {
		return nil, err
	}
	b, err := readBatch(f, off+frameHead, n)
	if err != nil {
		return nil, shortIsTorn(err)
	}
	recs, err := journal.DecodeBatch(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errTorn, err)
	}
	if !journal.Follows(after, &recs[0]) {
		return nil, fmt.Errorf("%w: record %d stands after record %d", errTorn, recs[0].Seq, after)
	}
	return &frame{first: recs[0].Seq, last: recs[len(recs)-1].Seq, arrived: arrived, recs: recs, bytes: frameHead + n}, nil
}

// readBatch grows its buffer as bytes turn up, so that a length that lies costs nothing.
func readBatch(f io.ReaderAt, off int64, n int) ([]byte, error) {
	const step = 4 << 20
	b := make([]byte, 0, min(n, step))
	for len(b) < n {
		m := min(n-len(b), step)
		b = append(b, make([]byte, m)...)
		if _, err := f.ReadAt(b[len(b)-m:], off+int64(len(b)-m)); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func shortIsTorn(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: the file ends", errTorn)
	}
	return err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(fsync(d), d.Close())
}
