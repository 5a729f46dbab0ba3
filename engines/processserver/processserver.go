// Package processserver is the engine of a process server: it takes what the protected
// machines of its site ship, and appends it to the vaults of the recovery sites. One
// process a process server.
package processserver

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/engines"
	"github.com/understudy-ha/understudy/replication"
	"github.com/understudy-ha/understudy/vault"
)

type engine struct {
	home engines.Home

	served sync.WaitGroup

	mu      sync.Mutex // held for moments: streams ask what is accepted, also while the process server ends
	cfg     engines.Config
	ps      *replication.ProcessServer
	listen  net.Listener
	failed  error     // why the config could not be taken up
	failing time.Time // since when
	since   time.Time
	vaults  map[string]*engines.OpenedVault // by what they are opened with
	id      engines.NodeIdentity            // Set's alone

}

// New makes the engine of a home.
func New(_ context.Context, h engines.Home) (engines.Engine, error) {
	return &engine{home: h, since: time.Now().UTC(), vaults: map[string]*engines.OpenedVault{}}, nil
}

// Set implements engines.Engine.
func (e *engine) Set(_ context.Context, c engines.Config) error {
	e.mu.Lock()
	was := e.cfg
	e.cfg = c
	e.mu.Unlock()
	err := e.take(was, c)
	e.mu.Lock()
	switch {
	case err == nil:
		e.failing = time.Time{}
	case e.failing.IsZero():
		e.failing = time.Now()
	}
	e.failed = err
	ps := e.ps
	e.mu.Unlock()
	if ps != nil {
		ps.Recheck() // asks accept
	}
	return err
}

func (e *engine) take(was, c engines.Config) error {
	p := c.Section.ProcessServer
	if p == nil {
		return errors.New("the section has no processServer payload")
	}
	if p.Retired { // what is spooled is still dirty at its sources
		return e.stop()
	}
	all, err := windows(p.Bandwidth)
	if err != nil {
		return err
	}
	if o := was.Section.ProcessServer; e.ps != nil && (o == nil || o.Listen != p.Listen || o.SpoolDir != p.SpoolDir || o.SpoolBytes != p.SpoolBytes) {
		if err := e.stop(); err != nil {
			return err
		}
	}
	if e.ps == nil {
		if err := e.start(c); err != nil {
			return err
		}
	} else if err := e.id.Refresh(c.IdentityFile); err != nil {
		return err
	}
	e.ps.SetBandwidth(all, nil)
	return nil
}

func windows(list []api.BandwidthWindow) (out []replication.Window, err error) {
	for i, b := range list {
		kbps := b.Kbps
		if kbps == 0 {
			kbps = replication.Stop
		}
		w, err := replication.ParseWindow(b.Days, b.From, b.To, kbps)
		if err != nil {
			return nil, fmt.Errorf("bandwidth[%d]: %w", i, err)
		}
		out = append(out, w)
	}
	return out, nil
}

func (e *engine) start(c engines.Config) (err error) {
	p := c.Section.ProcessServer
	if e.id, err = engines.ReadNodeIdentity(c.IdentityFile); err != nil {
		return err
	}
	dir := p.SpoolDir
	if dir == "" {
		dir = filepath.Join(e.home.Data(), "spool")
	}
	listen := p.Listen
	if listen == "" {
		listen = ":" + replication.DefaultPort
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return fmt.Errorf("listen %q: %w", listen, err)
	}
	ps, err := replication.StartServer(replication.ServerConfig{Dir: dir, SpoolBytes: p.SpoolBytes, CA: e.id.CA, Cert: e.id.Cert,
		Accept: e.accept, OpenStream: e.openStream, Log: slog.Default()})
	if err != nil {
		return errors.Join(err, l.Close())
	}
	e.mu.Lock()
	e.ps, e.listen = ps, l
	e.mu.Unlock()
	e.served.Go(func() {
		if err := ps.Serve(l); err != nil {
			slog.Error("process server does not serve any more", "err", err)
		}
	})
	return nil
}

// stop ends the process server. Its streams ask meanwhile, so that mu is not held.
func (e *engine) stop() error {
	e.mu.Lock()
	ps := e.ps
	e.ps = nil
	e.mu.Unlock()
	if ps == nil {
		return nil
	}
	err := ps.Close()
	e.served.Wait()
	return err
}

// stream finds what was said of a stream.
func (e *engine) stream(i replication.StreamInfo) (api.AcceptedStream, engines.Config, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.cfg.Section.ProcessServer != nil {
		for _, a := range e.cfg.Section.ProcessServer.Streams {
			if a.Stream == i.Stream {
				return a, e.cfg, true
			}
		}
	}
	return api.AcceptedStream{}, e.cfg, false
}

// accept takes the streams of the section, each from its machine's node alone.
func (e *engine) accept(i replication.StreamInfo) error {
	a, _, ok := e.stream(i)
	switch {
	case !ok:
		return fmt.Errorf("stream %s is not sent through this process server", i.Stream)
	case a.UID != i.UID || a.Node != i.Node:
		return fmt.Errorf("stream %s belongs to machine %s on node %s", i.Stream, a.Machine, a.Node)
	case i.Epoch < uint64(a.Epoch):
		return fmt.Errorf("stream %s is at generation %d, the sender's is %d", i.Stream, a.Epoch, i.Epoch)
	}
	return nil
}

// openStream opens the vault's writer of a stream.
func (e *engine) openStream(ctx context.Context, i replication.StreamInfo) (replication.Appender, error) {
	a, c, ok := e.stream(i)
	if !ok {
		return nil, fmt.Errorf("stream %s is not sent through this process server", i.Stream)
	}
	v, err := e.openVault(ctx, c, a.Vault)
	if err != nil {
		return nil, err
	}
	spec := vault.StreamSpec{ID: i.Stream, Epoch: i.Epoch, Machine: vault.Machine{UID: i.UID, Name: i.Machine}}
	if a.Base != "none" {
		spec.Base = vault.Base{Kind: a.Base, Stream: a.BaseStream, Seq: a.BaseSeq}
	}
	for _, d := range i.Disks {
		spec.Disks = append(spec.Disks, vault.Disk{ID: d.ID, Size: d.Size})
	}
	w, err := v.Writer(ctx, spec)
	if err != nil {
		return nil, err
	}
	return w, nil
}

// openVault keeps one open vault for all streams into it.
func (e *engine) openVault(ctx context.Context, c engines.Config, a api.VaultAccess) (*engines.OpenedVault, error) {
	a.KeyRef = "" // a process server writes; it need not be able to read
	creds, err := c.Credentials(a)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal([]any{a, creds})
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(text)
	key := string(sum[:])
	e.mu.Lock()
	v := e.vaults[key]
	e.mu.Unlock()
	if v != nil {
		return v, nil
	}
	if v, err = c.OpenVault(ctx, a, ""); err != nil { // takes its time; others do not wait for it
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if first := e.vaults[key]; first != nil {
		return first, v.Close()
	}
	e.vaults[key] = v
	return v, nil
}

// State implements engines.Engine.
func (e *engine) State() api.EngineState {
	e.mu.Lock()
	ps, l, failed, failing, p := e.ps, e.listen, e.failed, e.failing, e.cfg.Section.ProcessServer
	e.mu.Unlock()
	s := api.EngineState{Phase: "serving", Since: e.since}
	switch {
	case p != nil && p.Retired && ps == nil && failed == nil:
		s.Phase = "retired"
	case ps != nil:
		st := ps.Status()
		s.Conditions = st.Conditions
		for _, m := range st.Machines {
			s.RPO = max(s.RPO, api.Duration(m.RPO.Now))
			s.RPOp50, s.RPOp99 = max(s.RPOp50, api.Duration(m.RPO.P50)), max(s.RPOp99, api.Duration(m.RPO.P99))
		}
		s.Address = l.Addr().String()
	case failed != nil && time.Since(failing) > engines.FailedAfter:
		s.Phase = "failed"
	default:
		s.Phase = "opening"
	}
	if failed != nil {
		s.Conditions = append(s.Conditions, engines.NotTakenUp(failed))
	}
	return s
}

// Close implements engines.Engine. What is spooled stays for the next process.
func (e *engine) Close(context.Context) error {
	err := e.stop()
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, v := range e.vaults {
		err = errors.Join(err, v.Close())
	}
	return err
}
