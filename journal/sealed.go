package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"
)

// Seal encrypts a payload to the recipient under a key of its own, bound to its place.
func Seal(b Binding, payload []byte, to age.Recipient) ([]byte, error) {
	plain, err := appendBinding(make([]byte, 0, maxBinding), &b)
	if err != nil {
		return nil, err
	}
	out := bytes.NewBuffer(make([]byte, 0, len(plain)+len(payload)+len(payload)/2048+1024))
	w, err := age.Encrypt(out, to)
	if err != nil {
		return nil, fmt.Errorf("seal for %s: %w", b, err)
	}
	for _, p := range [][]byte{plain, payload} {
		if _, err := w.Write(p); err != nil {
			return nil, fmt.Errorf("seal for %s: %w", b, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("seal for %s: %w", b, err)
	}
	return out.Bytes(), nil
}

// Unseal opens what Seal made and refuses it by class: ErrWrongKey, ErrCorrupt, ErrTruncated, ErrVersion, ErrReplayed.
func Unseal(name string, object []byte, want Binding, ids ...age.Identity) ([]byte, error) {
	o, err := openSealed(name, bytes.NewReader(object), int64(len(object)), ids...)
	if err != nil {
		return nil, err
	}
	if err := o.binding.check(name, want); err != nil {
		return nil, err
	}
	return o.read(o.start, o.size-o.start)
}

// sealed is the plain text of an object, read where it is asked for.
type sealed struct {
	name    string
	src     io.ReaderAt
	plain   io.ReaderAt
	size    int64 // of the plain text
	start   int64 // of the payload in it
	binding Binding
}

// ageChunk is what age encrypts and authenticates as one, of the plain text (age specification, C2SP, "Payload").
const ageChunk = 64 << 10

func openSealed(name string, src io.ReaderAt, size int64, ids ...age.Identity) (*sealed, error) {
	failing := &failKeeper{src: src}
	plain, n, err := age.DecryptReaderAt(failing, size, ids...)
	if err != nil {
		return nil, failing.classify(name, err)
	}
	o := &sealed{name: name, src: src, plain: plain, size: n}
	if n <= ageChunk { // its one chunk is kept: age would take a chunk's memory for each read of it
		p, err := o.read(0, n)
		if err != nil {
			return nil, err
		}
		o.plain = bytes.NewReader(p)
	}
	return openPlain(o)
}

func openPlain(o *sealed) (*sealed, error) {
	head, err := o.read(0, min(o.size, maxBinding))
	if err != nil {
		return nil, err
	}
	b, start, err := decodeBinding(o.name, head)
	o.binding, o.start = b, int64(start)
	return o, err
}

// read gives n bytes of plain text from off.
func (o *sealed) read(off, n int64) ([]byte, error) {
	if off < 0 || n < 0 || off > o.size || n > o.size-off {
		return nil, wrong(o.name, ErrCorrupt, "it refers to [%d, +%d) of %d bytes", off, n, o.size)
	}
	p := make([]byte, n)
	got, err := o.plain.ReadAt(p, off)
	if int64(got) == n {
		return p, nil
	}
	return nil, (&failKeeper{src: o.src}).classify(o.name, err)
}

// SourceError is an error of the reader under an object: the bytes could not be had, which says nothing about them.
type SourceError struct{ Err error }

// Error is the reader's own.
func (e *SourceError) Error() string { return e.Err.Error() }

// Unwrap gives the reader's own.
func (e *SourceError) Unwrap() error { return e.Err }

// failKeeper remembers that the source failed, so that an object which could not be read is not called corrupt.
type failKeeper struct {
	src io.ReaderAt
	err error
}

func (f *failKeeper) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.src.ReadAt(p, off)
	if err != nil && err != io.EOF {
		f.err = &SourceError{err}
		return n, f.err
	}
	return n, err
}

func (f *failKeeper) classify(name string, err error) error {
	var source *SourceError
	var noMatch *age.NoIdentityMatchError
	switch {
	case f.err != nil:
		return fmt.Errorf("read %s: %w", name, f.err)
	case errors.As(err, &source):
		return fmt.Errorf("read %s: %w", name, err)
	case errors.As(err, &noMatch):
		return wrong(name, ErrWrongKey, "it is encrypted to another recipient")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return wrong(name, ErrTruncated, "%v", err)
	}
	return wrong(name, ErrCorrupt, "%v", err)
}

// The codecs of blocks.
const (
	stored byte = 0
	zstd1  byte = 1
)

var (
	packer, _   = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(2), zstd.WithEncoderCRC(false))
	unpacker, _ = zstd.NewReader(nil, zstd.WithDecoderConcurrency(2), zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderMaxMemory(64<<20))
)

// pack compresses; what does not get smaller by a 32nd is stored as it is.
func pack(dst, raw []byte) ([]byte, byte) {
	start := len(dst)
	dst = packer.EncodeAll(raw, dst)
	if len(dst)-start <= len(raw)-len(raw)/32 {
		return dst, zstd1
	}
	return append(dst[:start], raw...), stored
}

// unpack gives exactly size bytes.
func unpack(name string, p []byte, codec byte, size int64) ([]byte, error) {
	switch {
	case codec == stored && int64(len(p)) == size:
		return p, nil
	case codec == zstd1:
		raw, err := unpacker.DecodeAll(p, make([]byte, 0, size))
		if err == nil && int64(len(raw)) == size {
			return raw, nil
		}
	}
	return nil, wrong(name, ErrCorrupt, "a block of codec %d has %d bytes and does not unpack to %d", codec, len(p), size)
}
