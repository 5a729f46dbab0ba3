package replication

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/understudy-ha/understudy/journal"
	"github.com/understudy-ha/understudy/pki"
	"github.com/understudy-ha/understudy/wire"
)

// ServerConfig of a process server.
type ServerConfig struct {
	// Dir is the spool's directory; nothing else lives there.
	Dir string
	// SpoolBytes bounds all spools together. Default 10 GiB.
	SpoolBytes int64
	// MinFreeBytes is what the spool's file system keeps free: others live there as well, the agent among them. Default a 20th of it, at least
	// 256 KiB, which is enough for files' heads, and at most 1 GiB.
	MinFreeBytes int64
	// RotateBytes is how big a spool file grows. Default: an eighth of SpoolBytes, at most 64 MiB.
	RotateBytes int64
	// SegmentBytes and SegmentAge: an append holds at most so many bytes of records, and the oldest waited at most so long for
	// others; a batch is not split. Defaults 8 MiB, 500 ms.
	SegmentBytes int64
	SegmentAge   time.Duration
	// RetryMin and RetryMax are between attempts to reach the vault. Defaults 100 ms, 30 s.
	RetryMin, RetryMax time.Duration
	// SilentAfter is how long a source may be silent before it is a condition. Default 15 min.
	SilentAfter time.Duration
	// CA and Cert for mutual TLS; Cert must be good for a server.
	CA   *x509.Certificate
	Cert *pki.Holder
	// Version of the program.
	Version string
	// Accept tells whether a stream is taken; Node is who sent it. An error is the refusal's detail. It is asked at each Open, by
	// Recheck, and about each spool that an earlier life left. Called by many goroutines, never by StartServer's own.
	Accept func(StreamInfo) error
	// OpenStream opens the vault's writer of a stream, with its epoch. Called by one goroutine a stream.
	OpenStream func(context.Context, StreamInfo) (Appender, error)
	// Bandwidth towards all vaults.
	Bandwidth []Window
	// Services lists services of this process server that are down; nil if there are none to look at.
	Services func() []string
	Log      *slog.Logger
	// Failpoint, if set, hears of each point that is reached: tests kill the process there.
	Failpoint func(Failpoint)
}

func (c *ServerConfig) defaults() error {
	switch {
	case c.Dir == "":
		return errors.New("process server: no spool directory")
	case c.Accept == nil || c.OpenStream == nil:
		return errors.New("process server: Accept and OpenStream are needed")
	case c.SpoolBytes < 0 || c.SpoolBytes > 0 && c.SpoolBytes < 1<<20:
		return fmt.Errorf("process server: a spool of %d bytes; want at least 1 MiB, or 0 for 10 GiB", c.SpoolBytes)
	}
	set(&c.SpoolBytes, 10<<30)
	set(&c.RotateBytes, min(c.SpoolBytes/8, 64<<20))
	set(&c.SegmentBytes, 8<<20)
	set(&c.SegmentAge, 500*time.Millisecond)
	set(&c.RetryMin, 100*time.Millisecond)
	set(&c.RetryMax, 30*time.Second)
	set(&c.SilentAfter, 15*time.Minute)
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return nil
}

func set[T comparable](v *T, to T) {
	var zero T
	if *v == zero {
		*v = to
	}
}

func (c *ServerConfig) reached(f Failpoint) {
	if c.Failpoint != nil {
		c.Failpoint(f)
	}
}

// ProcessServer takes streams from senders and appends them to vaults.
type ProcessServer struct {
	cfg    ServerConfig
	room   *budget
	pace   *bucket
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup // lanes, sessions' receivers, the sampler
	since  time.Time
	health healthState

	mu      sync.Mutex
	lanes   map[string]*lane // by stream
	opening map[string]*sync.Mutex
	paces   map[string][]Window // by stream
	closed  bool
}

// StartServer reads the spools that an earlier life left and ships them on. Serve takes senders.
func StartServer(cfg ServerConfig) (*ProcessServer, error) {
	if err := cfg.defaults(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	if cfg.MinFreeBytes == 0 {
		size, err := diskSize(cfg.Dir)
		if err != nil {
			return nil, err
		}
		cfg.MinFreeBytes = max(256<<10, min(size/20, 1<<30))
	}
	ps := &ProcessServer{cfg: cfg, room: newBudget(cfg.Dir, cfg.SpoolBytes, cfg.MinFreeBytes), pace: &bucket{}, since: time.Now(),
		lanes: map[string]*lane{}, opening: map[string]*sync.Mutex{}, paces: map[string][]Window{}}
	ps.pace.set(cfg.Bandwidth)
	ps.ctx, ps.cancel = context.WithCancel(context.Background())
	if err := ps.replay(); err != nil {
		return nil, errors.Join(err, ps.Close())
	}
	ps.wg.Go(ps.sampleLoop)
	return ps, nil
}

// replay starts a lane for each spool.
func (ps *ProcessServer) replay() error {
	entries, err := os.ReadDir(ps.cfg.Dir)
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	for _, e := range entries {
		if !e.IsDir() || !streamName.MatchString(e.Name()) {
			continue
		}
		// One that cannot be read must not cost the other machines their protection. It stays where it is until its source opens the stream
		// again: that goes on from what is stored, and what only the spool had is read again from the disk.
		if err := ps.replayOne(filepath.Join(ps.cfg.Dir, e.Name())); err != nil {
			ps.cfg.Log.Error("a spool cannot be read and is left alone", "stream", e.Name(), "err", err)
		}
	}
	return nil
}

func (ps *ProcessServer) replayOne(dir string) error {
	var f figures
	sp, err := openSpool(dir, ps.room, ps.cfg.RotateBytes, f.seen)
	if err != nil || sp == nil {
		return err
	}
	if sp.info.Stream != filepath.Base(dir) {
		return errors.Join(fmt.Errorf("spool %s is of stream %s", dir, sp.info.Stream), sp.close())
	}
	l := ps.newLane(sp.info, sp)
	l.figures.arrived, l.figures.gap, l.replayed = f.arrived, f.gap, true
	ps.start(l)
	return nil
}

// start has a lane run. The caller has mu, or is alone.
func (ps *ProcessServer) start(l *lane) {
	l.pace.set(ps.paces[l.info.Stream])
	ps.lanes[l.info.Stream] = l
	ctx, cancel := context.WithCancel(ps.ctx)
	l.cancel = cancel
	ps.wg.Go(func() {
		l.run(ctx)
		ps.mu.Lock()
		if ps.lanes[l.info.Stream] == l {
			delete(ps.lanes, l.info.Stream)
		}
		ps.mu.Unlock()
	})
}

// SetBandwidth replaces the windows of the process server and those of single streams.
func (ps *ProcessServer) SetBandwidth(all []Window, streams map[string][]Window) {
	ps.pace.set(all)
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.paces = streams
	for name, l := range ps.lanes {
		l.pace.set(streams[name])
	}
}

// Recheck asks Accept again about every stream and ends those that are not taken any more; their spools go.
func (ps *ProcessServer) Recheck() {
	for _, l := range ps.all() {
		if err := ps.cfg.Accept(l.info); err != nil {
			l.end(refuse(Stopping, "%v", err), true)
		}
	}
}

func (ps *ProcessServer) all() []*lane {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	out := make([]*lane, 0, len(ps.lanes))
	for _, l := range ps.lanes {
		out = append(out, l)
	}
	return out
}

// maxMessage is a batch of one record of the longest write, and more than enough around it, in bytes.
const maxMessage = journal.MaxWrite + 1<<20

// Serve takes senders from a listener until Close. It closes the listener.
func (ps *ProcessServer) Serve(lis net.Listener) error {
	ps.mu.Lock()
	if ps.closed {
		ps.mu.Unlock()
		return lis.Close()
	}
	ps.wg.Add(1)
	ps.mu.Unlock()
	defer ps.wg.Done()
	conf := pki.ServerTLS(pki.ServerOptions{CA: ps.cfg.CA, Cert: ps.cfg.Cert, RequireClient: true, NextProtos: []string{"h2"},
		Refused: func(from net.Addr, err error) { ps.cfg.Log.Warn("a certificate was refused", "from", from, "err", err) }})
	g := grpc.NewServer(grpc.Creds(credentials.NewTLS(conf)), grpc.WaitForHandlers(true), grpc.MaxRecvMsgSize(maxMessage), grpc.ConnectionTimeout(10*time.Second),
		grpc.InitialWindowSize(4<<20), grpc.InitialConnWindowSize(8<<20), grpc.ReadBufferSize(256<<10),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 10 * time.Second, Timeout: 10 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}))
	wire.RegisterReplicationServer(g, &service{ps: ps})
	stop := context.AfterFunc(ps.ctx, g.Stop)
	defer stop()
	err := g.Serve(lis)
	if ps.ctx.Err() != nil {
		return nil
	}
	return err
}

// Close ends all streams, and Serve, and waits. What is spooled stays for the next life.
func (ps *ProcessServer) Close() error {
	ps.mu.Lock()
	ps.closed = true
	ps.mu.Unlock()
	ps.cancel()
	ps.wg.Wait()
	return nil
}
