// Package zktest runs a real ZooKeeper ensemble on loopback, for tests and for the lab. It needs Java and
// ZooKeeper's jar, as Debian's package "zookeeper" installs them.
package zktest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/understudy-ha/understudy/freeport"
)

// Options are how the servers run. The zero value will do.
type Options struct {
	// Tick is ZooKeeper's tickTime; a new leader takes about two. Default 500 ms. Sessions may be as short as 1 s.
	Tick time.Duration
	// Cert, Key and CA are PEM files. With them Endpoints are ports with TLS, where clients must show a certificate
	// of the CA. The ports without TLS stay for the ensemble's own questions.
	Cert, Key, CA string
	// Classpath is where ZooKeeper is. Default zookeeper.jar in /usr/share/java, with what Debian's jar does not
	// name itself: Netty's codecs, which TLS needs, and something to log with.
	Classpath string
}

// Ensemble is n servers, each a process of its own. Its methods are safe for concurrent use.
type Ensemble struct {
	servers []*server
	opts    Options
}

type server struct {
	dir                          string
	client, secure, quorum, vote int // ports

	mu     sync.Mutex
	proc   *exec.Cmd     // nil: not started, or killed
	exited chan struct{} // closed when proc has ended, be it by itself
}

// Start starts n servers (1, 3 or 5) with their data and logs below dir, and waits until all serve. If that
// takes longer than ctx allows, they are stopped and the error says where the logs are. Writes are
// synced to disk, as is ZooKeeper's default.
func Start(ctx context.Context, dir string, n int, opts Options) (*Ensemble, error) {
	if opts.Tick == 0 {
		opts.Tick = 500 * time.Millisecond
	}
	if opts.Classpath == "" {
		opts.Classpath = "/usr/share/java/zookeeper.jar:/usr/share/java/netty-all.jar:/usr/share/java/netty-codec.jar:" +
			"/usr/share/java/netty-resolver.jar:/usr/share/java/slf4j-simple.jar"
	}
	ports, err := freeport.Take(4 * n)
	if err != nil {
		return nil, err
	}
	e := &Ensemble{opts: opts}
	for i := range n {
		p := ports[4*i:]
		e.servers = append(e.servers, &server{
			dir: filepath.Join(dir, fmt.Sprint("zk", i+1)), client: p[0], secure: p[1], quorum: p[2], vote: p[3],
		})
	}
	for i := range e.servers {
		if err := errors.Join(e.configure(i), e.Restart(i)); err != nil {
			e.Close()
			return nil, err
		}
	}
	if err := e.Ready(ctx); err != nil {
		e.Close()
		return nil, err
	}
	return e, nil
}

// configure writes what server i reads at its start.
func (e *Ensemble) configure(i int) error {
	s := e.servers[i]
	if err := os.MkdirAll(filepath.Join(s.dir, "data"), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(s.dir, "data", "myid"), fmt.Append(nil, i+1), 0o600); err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "dataDir=%s\nclientPort=%d\nclientPortAddress=127.0.0.1\n", filepath.Join(s.dir, "data"), s.client)
	fmt.Fprintf(&b, "tickTime=%d\ninitLimit=40\nsyncLimit=10\nminSessionTimeout=1000\nmaxClientCnxns=0\n", e.opts.Tick.Milliseconds())
	fmt.Fprintf(&b, "admin.enableServer=false\n4lw.commands.whitelist=srvr\nautopurge.purgeInterval=1\n")
	if len(e.servers) > 1 {
		for j, o := range e.servers {
			fmt.Fprintf(&b, "server.%d=127.0.0.1:%d:%d\n", j+1, o.quorum, o.vote)
		}
	}
	if e.opts.Cert != "" {
		if err := e.secure(s, &b); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(s.dir, "zoo.cfg"), []byte(b.String()), 0o600)
}

// secure adds a TLS port. ZooKeeper wants key and certificate in one file.
func (e *Ensemble) secure(s *server, cfg io.Writer) error {
	key, err := os.ReadFile(e.opts.Key)
	if err != nil {
		return err
	}
	cert, err := os.ReadFile(e.opts.Cert)
	if err != nil {
		return err
	}
	store := filepath.Join(s.dir, "node.pem")
	if err := os.WriteFile(store, append(key, cert...), 0o600); err != nil {
		return err
	}
	fmt.Fprintf(cfg, "secureClientPort=%d\nsecureClientPortAddress=127.0.0.1\n", s.secure)
	fmt.Fprintf(cfg, "serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory\nssl.clientAuth=need\n")
	fmt.Fprintf(cfg, "ssl.keyStore.location=%s\nssl.keyStore.type=PEM\nssl.trustStore.location=%s\nssl.trustStore.type=PEM\n", store, e.opts.CA)
	return nil
}

// Endpoints are the "host:port" of all servers for clients, by TLS if Options say so, running or not.
func (e *Ensemble) Endpoints() []string {
	var out []string
	for _, s := range e.servers {
		port := s.client
		if e.opts.Cert != "" {
			port = s.secure
		}
		out = append(out, fmt.Sprint("127.0.0.1:", port))
	}
	return out
}

// Leader gives the index of the server that leads, or -1 if none says so right now.
func (e *Ensemble) Leader() int {
	for i := range e.servers {
		if m := e.mode(i); m == "leader" || m == "standalone" {
			return i
		}
	}
	return -1
}

// mode asks server i what it is: "leader", "follower", "standalone", or "" while it serves nobody.
func (e *Ensemble) mode(i int) string {
	c, err := net.DialTimeout("tcp", fmt.Sprint("127.0.0.1:", e.servers[i].client), time.Second)
	if err != nil {
		return ""
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Second))
	io.WriteString(c, "srvr")
	answer, _ := io.ReadAll(c)
	_, mode, _ := strings.Cut(string(answer), "Mode: ")
	mode, _, _ = strings.Cut(mode, "\n")
	return mode
}

// Ready waits until every server serves that was not killed.
func (e *Ensemble) Ready(ctx context.Context) error {
	for i, s := range e.servers {
		for exited := s.running(); exited != nil && e.mode(i) == ""; {
			select {
			case <-exited:
				return fmt.Errorf("zookeeper server %d has ended by itself, see %s", i, s.log())
			case <-ctx.Done():
				return fmt.Errorf("zookeeper server %d does not serve, see %s: %w", i, s.log(), ctx.Err())
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	return nil
}

func (s *server) log() string { return filepath.Join(s.dir, "server.log") }

// running gives what is closed when the server ends, or nil if it was killed.
func (s *server) running() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		return nil
	}
	return s.exited
}

// Pid is the process of server i, or 0 if it was killed.
func (e *Ensemble) Pid(i int) int {
	s := e.servers[i]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		return 0
	}
	return s.proc.Process.Pid
}

// Restart starts server i on its old data, if it was killed. It does not wait until it serves: Ready does.
func (e *Ensemble) Restart(i int) error {
	s := e.servers[i]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc != nil {
		return nil
	}
	log, err := os.OpenFile(s.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command("java", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.net.preferIPv4Stack=true",
		"-Dzookeeper.jmx.log4j.disable=true", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", e.opts.Classpath,
		"org.apache.zookeeper.server.quorum.QuorumPeerMain", filepath.Join(s.dir, "zoo.cfg"))
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.dir, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // also when this process dies by a signal
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start zookeeper server %d: %w", i, err)
	}
	exited := make(chan struct{})
	go func() { // ends with the process, which Kill waits for
		cmd.Wait()
		close(exited)
	}()
	s.proc, s.exited = cmd, exited
	return nil
}

// Kill ends server i by SIGKILL and waits until it is gone. A server that does not run is no error.
func (e *Ensemble) Kill(i int) error {
	s := e.servers[i]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		return nil
	}
	err := s.proc.Process.Kill()
	<-s.exited
	s.proc = nil
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// Close kills every server. Their data stays. Close twice is safe.
func (e *Ensemble) Close() error {
	var errs []error
	for i := range e.servers {
		errs = append(errs, e.Kill(i))
	}
	return errors.Join(errs...)
}
