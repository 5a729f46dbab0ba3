package journal

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// Hash is a SHA-256; in text it is hexadecimal.
type Hash [sha256.Size]byte

// Sum is the hash of an object's bytes as they lie in the store.
func Sum(object []byte) Hash { return sha256.Sum256(object) }

// Chain is the stream's chain after a segment: the hash of the chain before it and the segment's hash. It starts from the zero
// Hash, so that a value stands for everything up to it.
func Chain(before, segment Hash) Hash {
	return sha256.Sum256(append(before[:], segment[:]...))
}

// String is the hash in hexadecimal.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText makes hashes readable in JSON.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (h *Hash) UnmarshalText(b []byte) error {
	if len(b) == 2*len(h) {
		if _, err := hex.Decode(h[:], b); err == nil {
			return nil
		}
	}
	return fmt.Errorf("hash %q: it has 64 hexadecimal digits", b)
}

// ObjectType says what is inside a sealed object.
type ObjectType uint8

// The types of sealed objects.
const (
	SegmentObject  ObjectType = 1 // records as they were written
	LayerObject    ObjectType = 2 // a part of a layer: the newest bytes of sorted extents
	IndexObject    ObjectType = 3 // the list of a layer's parts
	ResourceObject ObjectType = 4 // a resource of the control plane
)

// Binding is the place that a sealed object belongs to. It lies inside the encryption; a reader compares it with the place where
// it found the object, so that a good object in the wrong place is refused.
type Binding struct {
	Type   ObjectType
	Vault  string // the vault's id, at most 64 bytes
	Stream string // the stream's id; of a resource its key; at most 512 bytes
	Epoch  uint64 // segment: the writer's epoch; else 0
	First  uint64 // first position inside
	Last   uint64 // last position inside
	Part   uint32 // layer: number of the part; else 0
	Prev   Hash   // segment: the chain before it; layer: the chain at Last
}

const (
	objectVersion = 1
	bindingFixed  = 8 + 3*8 + 4 + 32 + 4
	maxVaultID    = 64
	maxStreamID   = 512
	maxBinding    = bindingFixed + maxVaultID + maxStreamID
)

var objectMagic = []byte("USJO")

func appendBinding(dst []byte, b *Binding) ([]byte, error) {
	if b.Vault == "" || len(b.Vault) > maxVaultID || b.Stream == "" || len(b.Stream) > maxStreamID {
		return dst, fmt.Errorf("binding to vault %q, stream %q: both are needed, of at most %d and %d bytes", b.Vault, b.Stream, maxVaultID, maxStreamID)
	}
	dst = append(dst, objectMagic...)
	dst = le.AppendUint16(dst, objectVersion)
	dst = append(dst, byte(b.Type), 0)
	for _, v := range []uint64{b.Epoch, b.First, b.Last} {
		dst = le.AppendUint64(dst, v)
	}
	dst = le.AppendUint32(dst, b.Part)
	dst = append(dst, b.Prev[:]...)
	dst = le.AppendUint16(dst, uint16(len(b.Vault)))
	dst = le.AppendUint16(dst, uint16(len(b.Stream)))
	return append(append(dst, b.Vault...), b.Stream...), nil
}

// decodeBinding reads a binding from the start of an object's plain text and tells its length.
func decodeBinding(name string, p []byte) (Binding, int, error) {
	if len(p) < bindingFixed || !bytes.Equal(p[:4], objectMagic) {
		return Binding{}, 0, wrong(name, ErrCorrupt, "it does not begin with %q and a binding", objectMagic)
	}
	if v := le.Uint16(p[4:]); v != objectVersion {
		return Binding{}, 0, wrong(name, ErrVersion, "object version %d; this program reads %d", v, objectVersion)
	}
	b := Binding{Type: ObjectType(p[6]), Epoch: le.Uint64(p[8:]), First: le.Uint64(p[16:]), Last: le.Uint64(p[24:]), Part: le.Uint32(p[32:])}
	copy(b.Prev[:], p[36:])
	nv, ns := int(le.Uint16(p[68:])), int(le.Uint16(p[70:]))
	if p[7] != 0 || nv > maxVaultID || ns > maxStreamID || len(p) < bindingFixed+nv+ns {
		return Binding{}, 0, wrong(name, ErrCorrupt, "a binding with ids of %d and %d bytes", nv, ns)
	}
	b.Vault, b.Stream = string(p[bindingFixed:bindingFixed+nv]), string(p[bindingFixed+nv:bindingFixed+nv+ns])
	return b, bindingFixed + nv + ns, nil
}

// check refuses an object that is bound elsewhere than want.
func (b Binding) check(name string, want Binding) error {
	if b == want {
		return nil
	}
	return wrong(name, ErrReplayed, "it belongs to %s; here belongs %s", b, want)
}

// String names the place for errors.
func (b Binding) String() string {
	return fmt.Sprintf("vault %s stream %s type %d epoch %d records %d to %d part %d after %.8s",
		b.Vault, b.Stream, b.Type, b.Epoch, b.First, b.Last, b.Part, b.Prev)
}
