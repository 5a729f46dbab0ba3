package install

import (
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"fmt"
	"io"
	"os"
)

// Binary is a build of this program.
type Binary struct {
	Path string
	// Arch is "amd64" or "arm64".
	Arch string
	// Sum is the SHA-256 of the file, in hexadecimal.
	Sum  string
	Size int64
}

// ReadBinary looks into a build.
func ReadBinary(path string) (b Binary, err error) {
	f, err := os.Open(path)
	if err != nil {
		return b, err
	}
	defer f.Close()
	e, err := elf.NewFile(f)
	if err != nil {
		return b, fmt.Errorf("%s is no Linux program: %w", path, err)
	}
	switch e.Machine {
	case elf.EM_X86_64:
		b.Arch = "amd64"
	case elf.EM_AARCH64:
		b.Arch = "arm64"
	default:
		return b, fmt.Errorf("%s is built for %s: want x86-64 or AArch64", path, e.Machine)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return b, err
	}
	h := sha256.New()
	if b.Size, err = io.Copy(h, f); err != nil {
		return b, err
	}
	b.Path, b.Sum = path, hex.EncodeToString(h.Sum(nil))
	return b, nil
}
