// Package replication carries a machine's writes from the source to the recovery site's vault: a sender beside the capture,
// and a process server that stands at the source site.
//
//	capture ─► Sender ══mTLS══► ProcessServer: spool ─► pack ─► Appender ─► vault
//	   ▲ Release ◄── spooled ◄────────┘ (fsync)                    │
//	   └ Stored  ◄── stored ◄──────────────────────────────────────┘ (segment and head committed)
//
// The process server answers twice. "Spooled" means that a record outlives a crash of the process server and frees the
// sender's memory. "Stored" means that the record is committed in the recovery site's object store; it alone clears dirty
// bits and moves the received RPO. A process server that loses its spool costs a resynchronisation of what was not stored,
// never a block.
//
// Whatever is killed or cut, what the Appender was given is the source's stream from its start, without holes, except
// where a GapBegin record admits one. Nothing here ever makes the source wait: when the process server takes no more, the
// sender stops calling Next, and the capture decides (its queue fills, then a gap opens).
//
// # Conditions
//
// The process server reports these by the field's thresholds; JudgeHealth decides the first six from samples:
//
//	ProcessServerCPU        CPU above 80 % for 15 minutes: warning; above 95 %: critical
//	ProcessServerMemory     memory above 80 % for 15 minutes: warning; above 95 %: critical
//	ProcessServerSpoolLow   spool below 30 % free for 15 minutes: warning; below 25 %: critical
//	ProcessServerUploadSlow what is spooled needs more than 30 minutes to be stored: warning; more than 45: critical
//	ProcessServerServices   a service of the process server is down: warning
//	ProcessServerSilent     no heartbeat of the process server for 15 minutes: critical
//	SpoolFull               the spool takes no more; sources keep dirty bits instead: critical
//	VaultUnreachable        a stream's appends fail; they are retried for ever: warning
//	SourceSilent            no heartbeat of a machine's source for 15 minutes (settable): warning
//	ClockSkew               the source's clock and ours differ by more than 5 seconds: warning
//
// A sender reports ProcessServerUnreachable, ProcessServerRefuses, ProcessServerFull and ClockSkew.
package replication

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/understudy-ha/understudy/journal"
)

// Source is what the sender needs of a capture. Its methods may be called from several goroutines.
type Source interface {
	// Next returns the records that follow what was handed out before, at least one; it waits for them until ctx ends. They
	// are the caller's to read until they are released.
	Next(ctx context.Context) ([]journal.Record, error)
	// Release says that everything up to a position is spooled.
	Release(upTo uint64)
	// Stored says that everything up to a position is stored at the recovery site.
	Stored(upTo uint64)
	// Rewind says that the far side has the positions below from only. Next goes on with from if that is still in memory
	// (true), or with a GapBegin.
	Rewind(from uint64) bool
}

// Lag is how far a source is behind, at one instant.
type Lag struct {
	// Captured is the last position that was numbered.
	Captured uint64
	// Oldest is when the oldest record that is not spooled was captured; in a gap not later than its beginning. Zero for none.
	Oldest time.Time
	// QueueBytes wait at the source.
	QueueBytes int64
	InGap      bool
}

// Appender is the vault's writing side of one stream. One goroutine at a time calls Append.
type Appender interface {
	// Append returns when the records are committed: the segment is stored and a head names it. committed is the last
	// committed position, also with an error. An error that is ErrFenced (or has a method Fenced() bool that says so) means
	// that somebody else writes the stream now; one with a method Permanent() bool that says so means that these records will
	// never be taken as they are; all others are tried again.
	Append(ctx context.Context, recs []journal.Record) (committed uint64, err error)
	// Position is the last committed position.
	Position() uint64
	Close() error
}

// Beginner is an Appender that works on the next records (compression, encryption) while earlier ones are on their way.
type Beginner interface {
	Appender
	// Begin takes records and returns as soon as the next Begin may be called; wait returns what Append would. Once a wait has
	// failed, those of later Begins fail as well.
	Begin(ctx context.Context, recs []journal.Record) (wait func() (committed uint64, err error), err error)
}

// Uploader is an Appender that knows how many bytes it has sent to the object store. Bandwidth is then counted in those,
// otherwise in bytes of records.
type Uploader interface{ Uploaded() int64 }

// ErrFenced says that a newer writer has taken a stream over.
var ErrFenced = errors.New("fenced: a newer writer has the stream")

func isFenced(err error) bool {
	var f interface{ Fenced() bool }
	return errors.Is(err, ErrFenced) || errors.As(err, &f) && f.Fenced()
}

func isPermanent(err error) bool {
	var p interface{ Permanent() bool }
	return errors.As(err, &p) && p.Permanent()
}

// Disk of a machine.
type Disk struct {
	ID   string `json:"id"`
	Size int64  `json:"size"` // bytes
}

// StreamInfo names a stream and the generation of its machine's assignment that may write it.
type StreamInfo struct {
	Machine string `json:"machine"` // <tenant>/<name>
	UID     string `json:"uid"`
	Stream  string `json:"stream"` // <uid>-<n>; letters, digits, "-" and ".", at most 128
	Epoch   uint64 `json:"epoch"`
	Disks   []Disk `json:"disks"` // a record's disk is an index into it; at most MaxDisks
	// Node is who sends: <tenant>/<name> of its certificate. The process server fills it in.
	Node string `json:"node"`
}

// MaxDisks of a machine.
const MaxDisks = 1024

var streamName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.-]{0,127}$`)

// Validate refuses what cannot be a stream; the error names the field, its value and what would be right.
func (s *StreamInfo) Validate() error {
	switch {
	case !streamName.MatchString(s.Stream):
		return fmt.Errorf(`stream is %q; want letters, digits, "-" and ".", beginning with a letter or digit, at most 128`, s.Stream)
	case s.UID == "" || len(s.UID) > 128:
		return fmt.Errorf("uid is %q; want 1 to 128 bytes", s.UID)
	case len(s.Machine) > 256:
		return fmt.Errorf("machine has %d bytes; want at most 256", len(s.Machine))
	case len(s.Disks) == 0 || len(s.Disks) > MaxDisks:
		return fmt.Errorf("%d disks; want 1 to %d", len(s.Disks), MaxDisks)
	}
	for i, d := range s.Disks {
		if d.ID == "" || len(d.ID) > 256 || d.Size < 0 {
			return fmt.Errorf("disk %d is %q of %d bytes; want an id of 1 to 256 bytes and a size of 0 or more", i, d.ID, d.Size)
		}
	}
	return nil
}

// The codes of a refusal.
const (
	NotAccepted = "not-accepted" // the process server was not told to take this stream from this node
	OldEpoch    = "old-epoch"    // a newer generation of the machine writes this stream
	Fenced      = "fenced"       // somebody else took the stream over at the vault
	Replaced    = "replaced"     // the same node opened the stream again
	OutOfOrder  = "out-of-order" // a batch does not follow what came before
	Malformed   = "malformed"    // a message cannot be understood
	Unavailable = "unavailable"  // the vault or the spool cannot be reached; try again
	Stopping    = "stopping"     // the process server ends, or was told to take the stream no longer
)

// Refusal is why a process server ended a stream.
type Refusal struct {
	Code   string // one of the codes above
	Detail string
}

// Error is one line.
func (r *Refusal) Error() string { return r.Code + ": " + r.Detail }

// Is lets errors.Is(err, ErrFenced) see a fenced stream.
func (r *Refusal) Is(target error) bool {
	return target == ErrFenced && (r.Code == Fenced || r.Code == OldEpoch)
}

func refuse(code, format string, args ...any) *Refusal {
	return &Refusal{Code: code, Detail: fmt.Sprintf(format, args...)}
}
