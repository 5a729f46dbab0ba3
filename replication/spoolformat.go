package replication

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/understudy-ha/understudy/journal"
)

// The format of spool files: docs/formats/spool.md.
const (
	spoolVersion = 1
	fileHead     = 44
	frameHead    = 24
	maxMeta      = 1 << 20
	spoolSuffix  = ".spool"
)

var (
	fileMagic  = []byte("USPS")
	frameMagic = []byte("USPF")
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	le         = binary.LittleEndian
	// errTorn says that a spool file ends here: what follows was not written whole, or is not what was written.
	errTorn = errors.New("torn")
)

// fileHeader stands at the beginning of a spool file.
type fileHeader struct {
	number  uint64
	base    uint64 // position of the last record before the file
	created time.Time
	info    StreamInfo
}

func (h *fileHeader) encode() ([]byte, error) {
	meta, err := json.Marshal(h.info)
	if err != nil {
		return nil, err
	}
	if len(meta) > maxMeta {
		return nil, fmt.Errorf("the description of stream %s has %d bytes; at most %d", h.info.Stream, len(meta), maxMeta)
	}
	b := append(make([]byte, 0, fileHead+len(meta)+4), fileMagic...)
	b = le.AppendUint16(b, spoolVersion)
	b = le.AppendUint16(b, 0)
	b = le.AppendUint64(b, h.number)
	b = le.AppendUint64(b, h.info.Epoch)
	b = le.AppendUint64(b, h.base)
	b = le.AppendUint64(b, uint64(h.created.UnixNano()))
	b = le.AppendUint32(b, uint32(len(meta)))
	b = append(b, meta...)
	return le.AppendUint32(b, crc32.Checksum(b, castagnoli)), nil
}

// headLength tells how long a file's head is from its first bytes.
func headLength(b []byte) (int, error) {
	if len(b) < fileHead || !bytes.Equal(b[:4], fileMagic) {
		return 0, fmt.Errorf("%w: no head", errTorn)
	}
	if v := le.Uint16(b[4:]); v != spoolVersion {
		return 0, fmt.Errorf("spool version %d; this program reads %d", v, spoolVersion)
	}
	n := le.Uint32(b[40:])
	if le.Uint16(b[6:]) != 0 || n > maxMeta {
		return 0, fmt.Errorf("%w: a description of %d bytes", errTorn, n)
	}
	return fileHead + int(n) + 4, nil
}

// decodeHeader reads a head of exactly headLength bytes.
func decodeHeader(b []byte) (*fileHeader, error) {
	n, err := headLength(b)
	if err != nil {
		return nil, err
	}
	if len(b) != n || crc32.Checksum(b[:n-4], castagnoli) != le.Uint32(b[n-4:]) {
		return nil, fmt.Errorf("%w: the head does not check", errTorn)
	}
	h := &fileHeader{number: le.Uint64(b[8:]), base: le.Uint64(b[24:]), created: time.Unix(0, int64(le.Uint64(b[32:])))}
	if err := json.Unmarshal(b[fileHead:n-4], &h.info); err != nil {
		return nil, fmt.Errorf("%w: description: %v", errTorn, err)
	}
	if err := h.info.Validate(); err != nil {
		return nil, fmt.Errorf("%w: description: %v", errTorn, err)
	}
	if h.info.Epoch != le.Uint64(b[16:]) {
		return nil, fmt.Errorf("%w: epoch %d and %d", errTorn, h.info.Epoch, le.Uint64(b[16:]))
	}
	return h, nil
}

func encodeFrameHead(n int, arrived time.Time) [frameHead]byte {
	var b [frameHead]byte
	copy(b[:], frameMagic)
	le.PutUint32(b[4:], uint32(n))
	le.PutUint64(b[8:], uint64(arrived.UnixNano()))
	le.PutUint32(b[20:], crc32.Checksum(b[:20], castagnoli))
	return b
}

// decodeFrameHead gives the length of the batch that follows and when it arrived.
func decodeFrameHead(b []byte) (n int, arrived time.Time, err error) {
	if len(b) < frameHead || !bytes.Equal(b[:4], frameMagic) || le.Uint32(b[16:]) != 0 ||
		crc32.Checksum(b[:20], castagnoli) != le.Uint32(b[20:]) {
		return 0, time.Time{}, fmt.Errorf("%w: no frame's head", errTorn)
	}
	n = int(le.Uint32(b[4:]))
	if n > journal.MaxBatch+1024 {
		return 0, time.Time{}, fmt.Errorf("%w: a batch of %d bytes", errTorn, n)
	}
	return n, time.Unix(0, int64(le.Uint64(b[8:]))), nil
}
