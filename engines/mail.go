package engines

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/klauspost/compress/zstd"

	"github.com/understudy-ha/understudy/capture"
)

// The letters that the two sides of a reprotect leave each other in the mailbox of the vault that will be shipped into. They are
// specified in docs/formats/mailbox.md. They are not encrypted, since each side has the key of its own vault alone: they tell places and hashes of blocks.
const (
	// MailChanged, from the new side: what it knows to have changed since the point that it was recovered to.
	MailChanged = "changed"
	// MailBlocks, from the old primary: that and what it wrote itself, block by block, with what its disks hold there.
	MailBlocks = "blocks"

	mailVersion = 1
	// maxMail bounds a letter, unpacked, in bytes.
	maxMail = 1 << 30
	// maxReach bounds where a range may end, in bytes: far behind any disk.
	maxReach = 1 << 56
)

// Letter is a set of blocks.
type Letter struct {
	Version int `json:"version"`
	// Machine is the UID that the letter is about.
	Machine string `json:"machine"`
	// Granule of Hashes in bytes; Ranges are multiples of it, but for a disk's end.
	Granule int64           `json:"granule"`
	Ranges  []capture.Range `json:"ranges"`
	// Hashes of the granules of Ranges, in their order: the first 16 bytes of SHA-256. Only in MailBlocks.
	Hashes [][]byte `json:"hashes,omitempty"`
}

// Encode packs a letter.
func (l Letter) Encode() ([]byte, error) {
	l.Version = mailVersion
	b, err := json.Marshal(l)
	if err != nil {
		return nil, err
	}
	z, err := zstd.NewWriter(nil)
	if err != nil {
		return nil, err
	}
	return z.EncodeAll(b, nil), nil
}

// DecodeLetter unpacks a letter that is about a machine.
func DecodeLetter(b []byte, machine string) (l Letter, err error) {
	z, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(maxMail))
	if err != nil {
		return l, err
	}
	defer z.Close()
	plain, err := z.DecodeAll(b, nil)
	if err != nil {
		return l, fmt.Errorf("letter: %w", err)
	}
	if err := json.Unmarshal(plain, &l); err != nil {
		return l, fmt.Errorf("letter: %w", err)
	}
	return l, l.check(machine)
}

func (l Letter) check(machine string) error {
	switch {
	case l.Version != mailVersion:
		return fmt.Errorf("letter: version %d, want %d", l.Version, mailVersion)
	case l.Machine != machine:
		return fmt.Errorf("letter: it is about machine %q, not %q", l.Machine, machine)
	case l.Granule < 512 || l.Granule&(l.Granule-1) != 0:
		return fmt.Errorf("letter: granule %d: want a power of two of at least 512", l.Granule)
	}
	n := 0
	for _, r := range l.Ranges {
		if r.Off < 0 || r.Len <= 0 || r.Off%l.Granule != 0 || r.Off > maxReach || r.Len > maxReach {
			return fmt.Errorf("letter: range %+v: want whole granules of %d bytes", r, l.Granule)
		}
		n += int((r.Len + l.Granule - 1) / l.Granule)
	}
	if len(l.Hashes) > 0 && len(l.Hashes) != n {
		return errors.New("letter: it has not one hash a granule")
	}
	return nil
}
