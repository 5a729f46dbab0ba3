package etcd

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/understudy-ha/understudy/freeport"
	"github.com/understudy-ha/understudy/store/storetest"
)

// serverEnv makes the test binary an etcd server of its own, so that tests can kill one for real.
const serverEnv = "UNDERSTUDY_TEST_ETCD_SERVER"

func TestMain(m *testing.M) {
	if config := os.Getenv(serverEnv); config != "" {
		os.Exit(serverMain(config))
	}
	os.Exit(m.Run())
}

// serverMain serves until its standard input ends, which happens at the latest when the test process does.
func serverMain(config string) int {
	var cfg Config
	if err := json.Unmarshal([]byte(config), &cfg); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	cfg.Log = os.Stderr
	s, err := Open(context.Background(), cfg)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	io.Copy(io.Discard, os.Stdin)
	s.Close()
	return 0
}

// freePorts gives loopback addresses that nobody listens on.
func freePorts(t testing.TB, n int) []string {
	t.Helper()
	ports, err := freeport.Take(n)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, p := range ports {
		out = append(out, fmt.Sprint("127.0.0.1:", p))
	}
	return out
}

// cluster is n etcd servers, each in a process of its own, with mutual TLS everywhere.
type cluster struct {
	t       testing.TB
	files   Files
	configs []Config
	procs   []*exec.Cmd // nil: not running
	stdins  []io.Closer
}

func startCluster(t testing.TB, n int) *cluster {
	t.Helper()
	certs, err := storetest.NewCerts(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, files: Files{Cert: certs.Cert, Key: certs.Key, CA: certs.CA}, procs: make([]*exec.Cmd, n), stdins: make([]io.Closer, n)}
	for _, cfg := range memberConfigs(t, n) {
		cfg.PeerTLS, cfg.ClientTLS = c.files, c.files
		cfg.PeerURL = strings.Replace(cfg.PeerURL, "http:", "https:", 1)
		cfg.ClientURL = strings.Replace(cfg.ClientURL, "http:", "https:", 1)
		cfg.InitialCluster = strings.ReplaceAll(cfg.InitialCluster, "http:", "https:")
		c.configs = append(c.configs, cfg)
	}
	t.Cleanup(func() {
		for i := range c.procs {
			c.kill(i)
		}
	})
	for i := range n {
		c.start(i)
	}
	return c
}

// memberConfigs gives the configurations of n members of one cluster on loopback.
func memberConfigs(t testing.TB, n int) []Config {
	ports := freePorts(t, 2*n)
	var members []string
	configs := make([]Config, n)
	for i := range configs {
		name := fmt.Sprint("m", i)
		configs[i] = Config{
			Dir:       t.TempDir(),
			Name:      name,
			PeerURL:   "http://" + ports[2*i],
			ClientURL: "http://" + ports[2*i+1],
			Heartbeat: 50 * time.Millisecond,
			Election:  500 * time.Millisecond,
		}
		members = append(members, name+"="+configs[i].PeerURL)
	}
	for i := range configs {
		configs[i].InitialCluster = strings.Join(members, ",")
	}
	return configs
}

func (c *cluster) start(i int) {
	c.t.Helper()
	//lint:ignore SA1026 these servers have no TLS configuration, the only field that JSON cannot carry
	config, err := json.Marshal(c.configs[i])
	if err != nil {
		c.t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serverEnv+"="+string(config))
	log, err := os.OpenFile(c.configs[i].Dir+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		c.t.Fatal(err)
	}
	defer log.Close()
	cmd.Stderr = log
	if c.stdins[i], err = cmd.StdinPipe(); err != nil {
		c.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.procs[i] = cmd
}

// kill is kill -9.
func (c *cluster) kill(i int) {
	if c.procs[i] != nil {
		c.procs[i].Process.Kill()
		c.procs[i].Wait()
		c.stdins[i].Close()
		c.procs[i] = nil
	}
}

func (c *cluster) endpoints() (out []string) {
	for _, cfg := range c.configs {
		out = append(out, cfg.ClientURL)
	}
	return out
}

// raw is a plain etcd client.
func (c *cluster) raw() *clientv3.Client {
	c.t.Helper()
	client, err := dial(Config{Endpoints: c.endpoints(), ClientTLS: c.files, Timeout: 5 * time.Second}, Config{}.logger())
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { client.Close() })
	return client
}

// leader waits until the cluster has one.
func (c *cluster) leader(raw *clientv3.Client) int {
	c.t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		for i, e := range c.endpoints() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			status, err := raw.Status(ctx, e)
			cancel()
			if err == nil && status.Leader == status.Header.MemberId {
				return i
			}
		}
	}
	c.t.Fatal("no etcd leader for 30 s")
	return -1
}
