package vault

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/understudy-ha/understudy/mutant"
	"github.com/understudy-ha/understudy/objstore"
)

// StreamSpec says which stream a writer extends, and describes it should it be new.
type StreamSpec struct {
	ID      string
	Epoch   uint64 // the machine's generation that may write; a smaller one than the stream's is fenced
	Machine Machine
	Disks   []Disk // in the order of their indices; a disk may grow, and disks may be added behind
	Base    Base   // must be the stream's own if it exists
}

// Writer extends one stream. Append is for one caller at a time, the rest is safe for concurrent use.
type Writer struct {
	v     *Vault
	spec  StreamSpec
	nonce string

	mu      sync.Mutex
	st      *state // as last known; the lists of a manifest are not kept up to date
	certain bool   // nothing of ours may have changed the head since st
	fenced  error
}

// Writer makes the stream if there is none, and takes it from whoever wrote it before: from here on no older writer extends it. It
// fails with ErrFenced if the stream has a newer epoch, ErrMismatch if it is another machine's or stands on something else.
func (v *Vault) Writer(ctx context.Context, spec StreamSpec) (*Writer, error) {
	if err := spec.validate(); err != nil {
		return nil, err
	}
	w := &Writer{v: v, spec: spec, nonce: v.opt.Nonce()}
	if spec.Base.Kind == "stream" {
		if err := v.hold(ctx, spec.Base, spec.ID); err != nil {
			return nil, err
		}
	}
	for range swapTries {
		if err := w.create(ctx); err != nil {
			return nil, err
		}
		_, err := v.update(ctx, spec.ID, w.takeOver)
		if errors.Is(err, ErrNoStream) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return w, w.reload(ctx)
	}
	return nil, fail("open", spec.ID, ErrBusy, "try again")
}

func (s *StreamSpec) validate() error {
	if err := validStream(s.ID); err != nil {
		return err
	}
	if s.Base.Kind != "" && s.Base.Kind != "disk" && s.Base.Kind != "stream" {
		return fmt.Errorf("stream %s: base kind %q; it is empty, disk or stream", s.ID, s.Base.Kind)
	}
	if (s.Base.Kind == "stream") != (s.Base.Stream != "") || s.Base.Stream == s.ID {
		return fmt.Errorf("stream %s: base %+v; a base stream has another stream's id", s.ID, s.Base)
	}
	return checkDisks(s.Disks)
}

// create puts the first head unless there is one.
func (w *Writer) create(ctx context.Context) error {
	if _, _, err := w.v.loadHead(ctx, w.spec.ID); !errors.Is(err, ErrNoStream) {
		return err
	}
	h := &head{Format: format, Vault: w.v.root.ID, Stream: w.spec.ID, Version: 1, Epoch: w.spec.Epoch, Writer: w.nonce,
		Machine: w.spec.Machine, Base: w.spec.Base, Disks: w.spec.Disks, Time: w.v.opt.Now().UTC()}
	_, err := w.v.swap(ctx, &state{}, h)
	if errors.Is(err, objstore.ErrExists) || errors.Is(err, objstore.ErrUnknown) {
		return nil
	}
	return err
}

// takeOver makes the head ours.
func (w *Writer) takeOver(s *state) (*head, error) {
	if s.Epoch > w.spec.Epoch {
		return nil, fail("open", w.spec.ID, ErrFenced, "its epoch is %d, the writer's %d", s.Epoch, w.spec.Epoch)
	}
	if s.Machine.UID != w.spec.Machine.UID || s.Base != w.spec.Base {
		return nil, fail("open", w.spec.ID, ErrMismatch, "it is of machine %q on base %+v, asked for as %q on %+v",
			s.Machine.UID, s.Base, w.spec.Machine.UID, w.spec.Base)
	}
	for i, d := range s.Disks {
		if i >= len(w.spec.Disks) || w.spec.Disks[i].ID != d.ID || w.spec.Disks[i].Size < d.Size {
			return nil, fail("open", w.spec.ID, ErrMismatch, "its disk %d is %q of %d bytes; disks stay and do not shrink", i, d.ID, d.Size)
		}
	}
	if s.Writer == w.nonce && s.Epoch == w.spec.Epoch {
		return nil, nil
	}
	h := s.next()
	h.Epoch, h.Writer, h.Disks, h.Machine = w.spec.Epoch, w.nonce, w.spec.Disks, w.spec.Machine
	return h, nil
}

// reload reads the head and finds out whether it is still ours.
func (w *Writer) reload(ctx context.Context) error {
	h, tag, err := w.v.loadHead(ctx, w.spec.ID)
	if err != nil {
		return err
	}
	if (h.Writer != w.nonce || h.Epoch != w.spec.Epoch) && !mutant.On(mutant.NoFence) {
		w.fenced = fail("append to", w.spec.ID, ErrFenced, "epoch %d writes now; this writer has epoch %d", h.Epoch, w.spec.Epoch)
		return w.fenced
	}
	w.st, w.certain = &state{head: *h, tag: tag}, true
	return nil
}
