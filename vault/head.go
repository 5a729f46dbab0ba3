package vault

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/understudy-ha/understudy/journal"
	"github.com/understudy-ha/understudy/objstore"
)

// Machine says whose writes a stream holds.
type Machine struct {
	UID    string `json:"uid"`
	Tenant string `json:"tenant,omitempty"`
	Name   string `json:"name,omitempty"`
}

// Disk is one disk of a stream, by its index.
type Disk struct {
	ID   string `json:"id"`
	Size int64  `json:"size"` // bytes, a multiple of 512
}

// Base says what lies under a stream: what its unwritten blocks are.
type Base struct {
	// Kind is "" (zeroes), "disk" (the blocks of the old primary's disks, which the vault does not have) or "stream".
	Kind   string `json:"kind,omitempty"`
	Stream string `json:"stream,omitempty"` // stream: another stream of this vault
	Seq    uint64 `json:"seq,omitempty"`    // at this position
}

// PointInfo is a recovery point of a stream.
type PointInfo struct {
	ID          string              `json:"id"`
	At          time.Time           `json:"at"`
	Seq         uint64              `json:"seq"` // the point's own position
	Consistency journal.Consistency `json:"consistency"`
	Tag         string              `json:"tag,omitempty"`
	Chain       journal.Hash        `json:"chain"` // the stream's chain after the segment that holds the point
}

// Gap is a range of positions in which records are missing; both ends belong to it. To 0: it is open.
type Gap struct {
	From uint64 `json:"from"`
	To   uint64 `json:"to,omitempty"`
}

func (g Gap) holds(seq uint64) bool { return seq >= g.From && (g.To == 0 || seq <= g.To) }

// segmentRef names one segment: records from First to Last, which continue position After.
type segmentRef struct {
	After uint64       `json:"a"` // First-1, or less if First is a gap-begin
	First uint64       `json:"f"`
	Last  uint64       `json:"l"`
	Epoch uint64       `json:"e"`
	Nonce string       `json:"n"`
	Size  int64        `json:"z"` // bytes of the object
	Hash  journal.Hash `json:"h"`
	Prev  journal.Hash `json:"p"` // the chain before it
}

func (r *segmentRef) chain() journal.Hash { return journal.Chain(r.Prev, r.Hash) }

// layerRef names one layer: the newest bytes of everything after From up to To.
type layerRef struct {
	From    uint64       `json:"from"`
	To      uint64       `json:"to"`
	Name    string       `json:"name"`
	Chain   journal.Hash `json:"chain"` // at To
	Hash    journal.Hash `json:"hash"`  // of the layer's index object
	Size    int64        `json:"size"`  // bytes of all its objects
	Parts   int          `json:"parts"`
	Extents int64        `json:"extents"`
}

// head is the one object of a stream that changes.
type head struct {
	Format   int               `json:"format"`
	Vault    string            `json:"vault"`
	Stream   string            `json:"stream"`
	Version  uint64            `json:"version"` // +1 at each swap, so that no state ever comes back
	Epoch    uint64            `json:"epoch"`
	Writer   string            `json:"writer"` // nonce of the one writer that may extend the stream
	Machine  Machine           `json:"machine"`
	Base     Base              `json:"base"`
	Disks    []Disk            `json:"disks"`
	Seq      uint64            `json:"seq"`   // last committed position
	Chain    journal.Hash      `json:"chain"` // at Seq
	Manifest string            `json:"manifest,omitempty"`
	Sum      journal.Hash      `json:"manifestHash"`
	Tail     []segmentRef      `json:"tail,omitempty"`   // segments since the manifest
	Points   []PointInfo       `json:"points,omitempty"` // since the manifest
	Gaps     []Gap             `json:"gaps,omitempty"`   // since the manifest; only the last of all may be open
	Holds    map[string]uint64 `json:"holds,omitempty"`  // streams that stand on this one, each with its position
	Swept    uint64            `json:"swept"`            // collections begun: what was put before is named no more
	Time     time.Time         `json:"time"`             // of the last swap that extended the stream, by the writer's clock
}

// manifest is what the head need not carry itself. It never changes; the next one replaces it.
type manifest struct {
	Format   int          `json:"format"`
	Stream   string       `json:"stream"`
	Layers   []layerRef   `json:"layers,omitempty"`   // sorted by To, then From
	Segments []segmentRef `json:"segments,omitempty"` // sorted; holes where layers are enough
	Points   []PointInfo  `json:"points,omitempty"`   // sorted
	Gaps     []Gap        `json:"gaps,omitempty"`     // sorted
}

func streamKey(stream, rest string) string { return "streams/" + stream + "/" + rest }
func headKey(stream string) string         { return streamKey(stream, "head") }
func layerKey(stream, layer string) string { return streamKey(stream, "layers/"+layer+"/") }
func segmentKey(stream string, r *segmentRef) string {
	return streamKey(stream, fmt.Sprintf("segments/%020d-%d-%s", r.First, r.Epoch, r.Nonce))
}

// validStream refuses an id that cannot be one segment of a key.
func validStream(id string) error {
	if err := objstore.ValidKey("use", headKey(id)); err != nil || bytes.ContainsRune([]byte(id), '/') || len(id) > 100 {
		return fmt.Errorf("stream id %q: it is 1 to 100 characters of [a-zA-Z0-9._-] and does not begin with a dot", id)
	}
	return nil
}

// decodeJSON reads one JSON value and nothing behind it.
func decodeJSON(key string, b []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	if err := d.Decode(into); err != nil {
		return damaged(key, journal.ErrCorrupt, "%v", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return damaged(key, journal.ErrCorrupt, "more follows the JSON value")
	}
	return nil
}

func (v *Vault) decodeHead(stream string, b []byte) (*head, error) {
	key := headKey(stream)
	h := &head{}
	if err := decodeJSON(key, b, h); err != nil {
		return nil, err
	}
	switch {
	case h.Format != format:
		return nil, damaged(key, journal.ErrVersion, "format %d; this program reads %d", h.Format, format)
	case h.Vault != v.root.ID || h.Stream != stream:
		return nil, damaged(key, journal.ErrReplayed, "it is the head of stream %q in vault %q", h.Stream, h.Vault)
	}
	if err := checkDisks(h.Disks); err != nil {
		return nil, damaged(key, journal.ErrCorrupt, "%v", err)
	}
	if err := checkParts(h.Tail, nil, h.Points, h.Gaps, h.Seq); err != nil {
		return nil, damaged(key, journal.ErrCorrupt, "%v", err)
	}
	if n := len(h.Tail); n > 0 && (h.Tail[n-1].Last != h.Seq || h.Tail[n-1].chain() != h.Chain) {
		return nil, damaged(key, journal.ErrCorrupt, "its last segment ends at %d, the stream at %d, or the chain differs", h.Tail[n-1].Last, h.Seq)
	}
	return h, nil
}

func decodeManifest(key, stream string, b []byte, seq uint64) (*manifest, error) {
	m := &manifest{}
	if err := decodeJSON(key, b, m); err != nil {
		return nil, err
	}
	switch {
	case m.Format != format:
		return nil, damaged(key, journal.ErrVersion, "format %d; this program reads %d", m.Format, format)
	case m.Stream != stream:
		return nil, damaged(key, journal.ErrReplayed, "it is a manifest of stream %q", m.Stream)
	}
	if err := checkParts(m.Segments, m.Layers, m.Points, m.Gaps, seq); err != nil {
		return nil, damaged(key, journal.ErrCorrupt, "%v", err)
	}
	return m, nil
}

// checkParts holds the order that the rest of the package relies on.
func checkParts(segs []segmentRef, layers []layerRef, points []PointInfo, gaps []Gap, seq uint64) error {
	for i, s := range segs {
		if s.After >= s.First || s.First > s.Last || s.Last > seq || s.Size <= 0 || s.Nonce == "" || i > 0 && segs[i-1].Last > s.After {
			return fmt.Errorf("segment %d covers (%d, %d to %d] in a stream that ends at %d", i, s.After, s.First, s.Last, seq)
		}
	}
	for i, l := range layers {
		if l.From >= l.To || l.To > seq || l.Parts < 0 || l.Name == "" || i > 0 && layers[i-1].To > l.To {
			return fmt.Errorf("layer %q covers (%d, %d] in a stream that ends at %d", l.Name, l.From, l.To, seq)
		}
	}
	for i, p := range points {
		if p.Seq == 0 || p.Seq > seq || i > 0 && points[i-1].Seq >= p.Seq {
			return fmt.Errorf("point %q lies at %d in a stream that ends at %d", p.ID, p.Seq, seq)
		}
	}
	for _, g := range gaps {
		if g.To != 0 && g.To < g.From || g.To > seq {
			return fmt.Errorf("a gap from %d to %d in a stream that ends at %d", g.From, g.To, seq)
		}
	}
	return nil
}

func checkDisks(disks []Disk) error {
	if len(disks) == 0 || len(disks) > 1<<10 {
		return fmt.Errorf("%d disks; a stream has 1 to 1024", len(disks))
	}
	for _, d := range disks {
		if d.ID == "" || d.Size <= 0 || d.Size%journal.Sector != 0 {
			return fmt.Errorf("disk %q of %d bytes; a disk has an id and a size that is a multiple of %d", d.ID, d.Size, journal.Sector)
		}
	}
	return nil
}
