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

	mu     sync.Mutex
	cfg    engines.Config
	ps     *replication.ProcessServer
	listen net.Listener
	served sync.WaitGroup
	id     engines.NodeIdentity
	failed error
	since  time.Time
	vaults map[string]*engines.OpenedVault // by what they are opened with
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
	e.failed = e.take(was, c)
	ps, err := e.ps, e.failed
	e.mu.Unlock()
	if ps != nil {
		ps.Recheck() // asks accept, which takes the lock
	}
	return err
}

func (e *engine) take(was, c engines.Config) error {
	p := c.Section.ProcessServer
	if p == nil {
		return errors.New("the section has no processServer payload")
	}
	all, err := windows(p.Bandwidth)
	if err != nil {
		return err
	}
	if o := was.Section.ProcessServer; e.ps != nil && (o.Listen != p.Listen || o.SpoolDir != p.SpoolDir || o.SpoolBytes != p.SpoolBytes) {
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
	if e.listen, err = net.Listen("tcp", listen); err != nil {
		return fmt.Errorf("listen %q: %w", listen, err)
	}
	e.ps, err = replication.StartServer(replication.ServerConfig{Dir: dir, SpoolBytes: p.SpoolBytes, CA: e.id.CA, Cert: e.id.Cert,
		Accept: e.accept, OpenStream: e.openStream, Log: slog.Default()})
	if err != nil {
		return errors.Join(err, e.listen.Close())
	}
	ps, l := e.ps, e.listen
	e.served.Go(func() {
		if err := ps.Serve(l); err != nil {
			slog.Error("process server does not serve any more", "err", err)
		}
	})
	return nil
}

func (e *engine) stop() error {
	if e.ps == nil {
		return nil
	}
	err := e.ps.Close()
	e.served.Wait()
	e.ps = nil
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
	e.mu.Lock()
	defer e.mu.Unlock()
	if v := e.vaults[string(sum[:])]; v != nil {
		return v, nil
	}
	v, err := c.OpenVault(ctx, a, "")
	if err == nil {
		e.vaults[string(sum[:])] = v
	}
	return v, err
}

// State implements engines.Engine.
func (e *engine) State() api.EngineState {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := api.EngineState{Phase: "serving", Since: e.since}
	if e.ps == nil {
		s.Phase = "failed"
	} else {
		st := e.ps.Status()
		s.Conditions = st.Conditions
		for _, m := range st.Machines {
			s.RPO = max(s.RPO, api.Duration(m.RPO.Now))
			s.RPOp50, s.RPOp99 = max(s.RPOp50, api.Duration(m.RPO.P50)), max(s.RPOp99, api.Duration(m.RPO.P99))
		}
		s.Address = e.listen.Addr().String()
	}
	if e.failed != nil {
		s.Conditions = append(s.Conditions, engines.NotTakenUp(e.failed))
	}
	return s
}

// Close implements engines.Engine. What is spooled stays for the next process.
func (e *engine) Close(context.Context) error {
	e.mu.Lock()
	ps := e.ps
	e.ps = nil
	e.mu.Unlock()
	var err error
	if ps != nil {
		err = ps.Close()
	}
	e.served.Wait()
	for _, v := range e.vaults {
		err = errors.Join(err, v.Close())
	}
	return err
}
