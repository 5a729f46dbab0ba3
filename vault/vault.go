// Package vault keeps streams of machines' writes on an object store, and gives every kept position of them back. A stream
// is segments in the order of their records, layers that sum segments up, and a head that names both. The layout is specified
// in docs/formats/vault.md.
//
// A head changes only by If-Match, so that writers, compactors, pruners and collectors need no lock and no clock between them: a
// writer that a newer one has fenced can never extend a stream, and what is not named by a head or a pin does not exist.
package vault

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"filippo.io/age"

	"github.com/understudy-ha/understudy/journal"
	"github.com/understudy-ha/understudy/objstore"
)

const (
	format   = 1
	rootKey  = "vault.json"
	nonceLen = 8 // bytes
)

// Options of an open vault. The zero Options can write and list, but not read what is encrypted.
type Options struct {
	// Identity opens what is encrypted. Without it View, Compact, Verify of contents, Export and Resources fail with ErrNoIdentity.
	Identity age.Identity
	// Cache is a directory on a local disk for decrypted blocks; "" caches in memory. The file in it is only for its owner (0600), has no
	// name while it is used, and is plain text: it belongs on a disk that may hold the machine's data.
	Cache string
	// CacheBytes bounds the cache of each view. Default 64 MiB in memory, 4 GiB in a directory; at least 1 MiB.
	CacheBytes int64
	// Tuning is for tests; its zero value means the defaults.
	Tuning Tuning
	// Now is the clock of pins and of garbage collection. Default time.Now.
	Now func() time.Time
	// Nonce gives names that nobody else gives, of [a-z0-9]. Default: 8 random bytes in hexadecimal.
	Nonce func() string
}

// Tuning are sizes that decide when work is done. Tests make them small.
type Tuning struct {
	SegmentRaw     int64         // bytes of records in one segment; default 16 MiB
	FoldAt         int           // segments named by the head before a manifest takes them; default 128
	CheckpointSegs int           // segments after the newest layer that make Compact write the next; default 256
	CheckpointRaw  int64         // or stored bytes of them; default 128 MiB
	CheckpointRecs int           // or records of them, which a view holds in memory, unlike a layer's; default 65536
	MaxLayers      int           // layers over any kept position; default 8
	PartBytes      int64         // stored bytes of a layer's part; default 16 MiB
	PartExtents    int           // extents of a layer's part; default 8192
	Parallel       int           // requests at a time of one call; default 16
	PinFor         time.Duration // a pin that nobody renews lasts so long; default 1 h
	Quiet          bool          // views do not renew pins by themselves
}

func (t *Tuning) defaults() {
	set(&t.SegmentRaw, 16<<20)
	set(&t.FoldAt, 128)
	set(&t.CheckpointSegs, 256)
	set(&t.CheckpointRaw, 128<<20)
	set(&t.CheckpointRecs, 1<<16)
	set(&t.MaxLayers, 8)
	set(&t.PartBytes, 16<<20)
	set(&t.PartExtents, 8192)
	set(&t.Parallel, 16)
	set(&t.PinFor, time.Hour)
}

func set[T int | int64 | time.Duration](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}

// Vault is an open vault. It is safe for concurrent use.
type Vault struct {
	store objstore.Store
	opt   Options
	tune  Tuning
	root  Root
	to    age.Recipient
}

// Root is the vault's own description.
type Root struct {
	Format    int       `json:"format"`
	ID        string    `json:"id"`        // random, never reused
	Recipient string    `json:"recipient"` // age X25519 public key of the recovery site
	Created   time.Time `json:"created"`
}

// Create makes a vault in an empty store. ErrExists if there is one. Repeating a Create whose outcome is unknown is safe only
// after looking; Open tells what is there.
func Create(ctx context.Context, s objstore.Store, recipient string, o Options) (*Vault, error) {
	v := prepare(s, o)
	if _, err := age.ParseX25519Recipient(recipient); err != nil {
		return nil, fmt.Errorf("recipient %q: %w; it is a public key like age1…, as vault keygen prints it", recipient, err)
	}
	id := make([]byte, 16)
	rand.Read(id)
	root := Root{Format: format, ID: hex.EncodeToString(id), Recipient: recipient, Created: v.opt.Now().UTC().Truncate(time.Second)}
	b, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		return nil, err
	}
	if _, err := objstore.PutOnce(ctx, s, rootKey, append(b, '\n')); errors.Is(err, objstore.ErrExists) {
		return nil, fail("create", rootKey, ErrExists, "open it, or take another prefix")
	} else if err != nil {
		return nil, err
	}
	return Open(ctx, s, o)
}

// Open opens the vault in a store; the vault does not close the store. An identity that is not the vault's is refused at once.
func Open(ctx context.Context, s objstore.Store, o Options) (*Vault, error) {
	v := prepare(s, o)
	b, _, err := s.Get(ctx, rootKey)
	if errors.Is(err, objstore.ErrNotFound) {
		return nil, fail("open", rootKey, ErrNoVault, "create one with vault create, or correct the URL")
	}
	if err != nil {
		return nil, err
	}
	if err := decodeJSON(rootKey, b, &v.root); err != nil {
		return nil, err
	}
	if v.root.Format != format {
		return nil, damaged(rootKey, journal.ErrVersion, "format %d; this program reads %d", v.root.Format, format)
	}
	to, err := age.ParseX25519Recipient(v.root.Recipient)
	if err != nil || len(v.root.ID) != 32 {
		return nil, damaged(rootKey, journal.ErrCorrupt, "id %q, recipient %q", v.root.ID, v.root.Recipient)
	}
	v.to = to
	if x, ok := o.Identity.(*age.X25519Identity); ok && x.Recipient().String() != v.root.Recipient {
		return nil, damaged(rootKey, journal.ErrWrongKey, "the vault is for %s, the key given is of %s", v.root.Recipient, x.Recipient())
	}
	return v, nil
}

func prepare(s objstore.Store, o Options) *Vault {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Nonce == nil {
		o.Nonce = func() string {
			b := make([]byte, nonceLen)
			rand.Read(b)
			return hex.EncodeToString(b)
		}
	}
	if o.CacheBytes <= 0 {
		o.CacheBytes = 64 << 20
		if o.Cache != "" {
			o.CacheBytes = 4 << 30
		}
	}
	o.Tuning.defaults()
	return &Vault{store: s, opt: o, tune: o.Tuning}
}

// Root tells the vault's id, recipient and age.
func (v *Vault) Root() Root { return v.root }

func (v *Vault) identities(op, object string) ([]age.Identity, error) {
	if v.opt.Identity == nil {
		return nil, fail(op, object, ErrNoIdentity, "give the private key of %s", v.root.Recipient)
	}
	return []age.Identity{v.opt.Identity}, nil
}

func damaged(key string, class error, format string, args ...any) error {
	return &journal.Error{Object: key, Class: class, Detail: fmt.Sprintf(format, args...)}
}
