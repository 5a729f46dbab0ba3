// Package live is a machine that runs: its disks are served and captured, its virtual
// machine is up or down, its stream is shipped and gets recovery points. The engines
// protect and site are two places for its disks to lie: in files of its own, or in
// volumes over a recovery point.
//
// It never makes the machine wait for the far side, and it writes to a disk only what
// the machine writes.
package live

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/capture"
	"github.com/understudy-ha/understudy/capture/disk"
	"github.com/understudy-ha/understudy/engines"
	"github.com/understudy-ha/understudy/nbd"
	"github.com/understudy-ha/understudy/replication"
)

// Spec is how a machine is to live. What is not said to change must not.
type Spec struct {
	// Machine is tenant/name, UID its identity; they do not change.
	Machine, UID string
	// Stream that its writes make, and the generation that may make them.
	Stream string
	Epoch  uint64
	Disks  []api.MachineDisk // names and their order do not change
	// Initial and ZeroBase say how the stream begins, if the capture does not know it yet: see disk.Config.
	Initial  []capture.Range
	ZeroBase bool
	// Access to the disks. What is writable stays so while Unconfirmed is asked for: the source does not wait for the control plane.
	Access disk.Access
	Listen string // where the disks are served, besides the home's own socket
	// Blocking: reading the disks may wait for something slow.
	Blocking   bool
	QueueBytes int64

	VM          *api.VirtualMachine
	Run         bool
	StopTimeout time.Duration

	// ProcessServers take the stream; none: writes are only remembered as dirty.
	ProcessServers []string
	CrashEvery     time.Duration
	AppEvery       time.Duration
	PreScript      string
	PostScript     string
	PointNow       string
	PointApp       bool
	// Yield, with Access ReadOnly, hands the past over.
	Yield *api.YieldConfig
	// Config that all of it came with: secrets, identity, hooks.
	Config engines.Config
}

// Machine lives. Its methods may be called concurrently; Set by one at a time.
type Machine struct {
	home   engines.Home
	marks  *engines.Marks
	lowers []nbd.Backend

	ctx  context.Context
	stop context.CancelFunc
	work sync.WaitGroup
	poke [3]chan struct{} // each loop looks at spec again

	setting  sync.Mutex // held by Set and Close, which may take a while
	readOnly bool       // how the disks are offered; under setting

	mu      sync.Mutex // held for moments
	spec    Spec
	wish    vmWish
	capture *disk.Machine
	disks   *engines.DiskServer
	vm      *engines.VM
	vmGone  bool // it was brought up and does not run any more
	vmRetry time.Duration
	vmBusy  sync.Mutex // held by who brings the virtual machine up or down
	// vmCancel ends what keepVM does with it just now.
	vmCancel context.CancelFunc
	sender   *replication.Sender
	id       engines.NodeIdentity
	points   pointState
	yieldNo  error  // why the past is not handed over yet
	wholeAt  uint64 // the stream had no gap at this position; 0: it has one
	stored   bool   // at some time everything was
}

// Open takes up a machine whose disks lie in lowers, in the order of spec.Disks. They stay open when it is closed. Set follows.
func Open(ctx context.Context, h engines.Home, marks *engines.Marks, lowers []nbd.Backend, s Spec) (*Machine, error) {
	cfg := disk.Config{Dir: filepath.Join(h.Data(), "capture"), MachineUID: s.UID, Stream: s.Stream, Epoch: s.Epoch, QueueBytes: s.QueueBytes,
		Access: disk.Unconfirmed, Paused: true, Initial: s.Initial, ZeroBase: s.ZeroBase, Log: slog.Default()}
	for i, d := range s.Disks {
		if d.Size != 0 && d.Size != lowers[i].Size() {
			return nil, fmt.Errorf("disk %s: %s has %d bytes, the machine's disk %d", d.Name, d.Path, lowers[i].Size(), d.Size)
		}
		cfg.Disks = append(cfg.Disks, disk.DiskConfig{ID: d.Name, Lower: lowers[i]})
	}
	c, err := openCapture(cfg)
	if err != nil {
		return nil, err
	}
	m := &Machine{home: h, marks: marks, lowers: lowers, capture: c, disks: engines.NewDiskServer(h), spec: s, vmRetry: vmRetry}
	for i := range m.poke {
		m.poke[i] = make(chan struct{}, 1)
	}
	m.ctx, m.stop = context.WithCancel(context.WithoutCancel(ctx))
	if s.VM != nil {
		if m.vm, err = engines.OpenVM(h, filepath.Base(s.Machine)); err != nil {
			return nil, errors.Join(err, m.Close())
		}
	}
	if err := m.disks.Listen(ctx, s.Listen); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	for _, d := range s.Disks {
		if err := m.offer(ctx, d.Name, false); err != nil {
			return nil, errors.Join(err, m.Close())
		}
	}
	if err := m.recallPoint(); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	m.work.Go(m.keepPoints)
	m.work.Go(m.keepYielding)
	if m.vm != nil {
		m.work.Go(m.keepVM)
	}
	return m, nil
}

// openCapture opens the directory with the stream that it has, and begins another if that is wanted.
func openCapture(cfg disk.Config) (*disk.Machine, error) {
	m, err := disk.Open(cfg)
	if !errors.Is(err, disk.ErrOtherStream) {
		return m, err
	}
	start := disk.Start{ID: cfg.Stream, Epoch: cfg.Epoch, Initial: cfg.Initial, ZeroBase: cfg.ZeroBase}
	cfg.Stream = ""
	if m, err = disk.Open(cfg); err != nil {
		return nil, err
	}
	if err := m.StartStream(start); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

func (m *Machine) offer(ctx context.Context, name string, readOnly bool) error {
	if err := m.disks.Offer(ctx, name, m.capture.Backend(name), readOnly, m.spec.Blocking); err != nil {
		return fmt.Errorf("disk %s: %w", name, err)
	}
	return nil
}

// Fits tells whether the machine can become what s wants without being opened anew.
func (m *Machine) Fits(s Spec) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	is := m.spec
	return is.Machine == s.Machine && is.UID == s.UID && is.Stream == s.Stream && slices.Equal(is.Disks, s.Disks) && is.Listen == s.Listen &&
		is.QueueBytes == s.QueueBytes && (is.VM == nil) == (s.VM == nil)
}

// ErrUnconfirmed: the machine goes on as it is. Opened anew it could not be written before a leader's word comes.
var ErrUnconfirmed = errors.New("the machine is written, and no leader said that it still may be: it is not opened anew before")

// MayReopen tells whether the machine, which does not fit a config, may be closed now: not if its guest would then wait for the control plane.
func (m *Machine) MayReopen(confirmed bool, want disk.Access) error {
	if !confirmed && want != disk.ReadOnly && m.capture.Access() == disk.Writable {
		return ErrUnconfirmed
	}
	return nil
}

// Set makes everything as s wants it; s fits.
func (m *Machine) Set(ctx context.Context, s Spec) error {
	m.setting.Lock()
	defer m.setting.Unlock()
	if m.ctx.Err() != nil {
		return capture.ErrClosed
	}
	m.mu.Lock()
	was := m.spec
	m.spec = s
	m.mu.Unlock()
	err := m.take(ctx, was, s)
	for _, c := range m.poke {
		select {
		case c <- struct{}{}:
		default:
		}
	}
	return err
}

// take keeps the order: what must not be written any more is not written before anything else is looked at.
func (m *Machine) take(ctx context.Context, was, s Spec) error {
	err := m.setAccess(ctx, s)
	if err == nil {
		err = m.setVM(s)
	}
	// One that cannot be shipped runs all the same.
	return errors.Join(err, m.setShipping(was, s))
}

// setAccess decides about writing.
func (m *Machine) setAccess(ctx context.Context, s Spec) error {
	want := s.Access
	if want == disk.Unconfirmed && m.capture.Access() == disk.Writable {
		want = disk.Writable
	}
	m.capture.SetAccess(want)
	readOnly := want == disk.ReadOnly
	if readOnly == m.readOnly {
		return nil
	}
	for _, d := range s.Disks {
		if err := m.offer(ctx, d.Name, readOnly); err != nil {
			return err
		}
	}
	m.readOnly = readOnly
	return nil
}

// VM gives the virtual machine, nil if there is none.
func (m *Machine) VM() *engines.VM { return m.vm }

// Capture gives the capture, for what only its engine knows.
func (m *Machine) Capture() *disk.Machine { return m.capture }

// Socket is where the disks are served.
func (m *Machine) Socket() string { return m.disks.Socket() }

// Close stops serving and lets go of the disks. The virtual machine goes on: its disks come back with the next process.
func (m *Machine) Close() error {
	m.stop()
	m.work.Wait()
	m.setting.Lock()
	defer m.setting.Unlock()
	return errors.Join(m.endSender(), m.disks.Close(), m.capture.Close())
}
