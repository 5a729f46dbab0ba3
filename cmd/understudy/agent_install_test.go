package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/freeport"
	"github.com/understudy-ha/understudy/install/sshtest"
)

// installRig is a controller, an SSH server and the real binary. Machines are roots on this one.
type installRig struct {
	t       *testing.T
	dir     string
	binary  string
	client  string
	ssh     *sshtest.Server
	roots   int
	cluster string
}

func newInstallRig(t *testing.T) *installRig {
	dir, err := os.MkdirTemp("", "us") // short: engines' sockets lie far below it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r := &installRig{t: t, dir: dir, ssh: sshtest.Start(t, "")}
	r.binary = r.build("v1")
	api, cluster := freePort(t), freePort(t)
	r.client, r.cluster = filepath.Join(r.dir, "c", "client.yaml"), cluster
	server := exec.Command(r.binary, "server", "--dir", filepath.Join(r.dir, "c"), "--listen", api, "--cluster-listen", cluster)
	log := r.create("server.log")
	server.Stdout, server.Stderr = log, log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	})
	r.until("the controller leads", func() bool {
		out, err := r.run("status")
		return err == nil && strings.Contains(out, "Leader")
	})
	return r
}

// build makes the real binary: engines are started from it by its name.
func (r *installRig) build(version string) string {
	r.t.Helper()
	to := filepath.Join(r.dir, "understudy-"+version)
	out, err := exec.Command("go", "build", "-o", to, "-ldflags", "-s -w -X main.version="+version, ".").CombinedOutput()
	if err != nil {
		r.t.Fatalf("build: %v: %s", err, out)
	}
	return to
}

func (r *installRig) create(name string) *os.File {
	r.t.Helper()
	f, err := os.Create(filepath.Join(r.dir, name))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { f.Close() })
	return f
}

func freePort(t *testing.T) string {
	t.Helper()
	at, err := freeport.Address()
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// run runs the operator's command line; what it says on standard error goes into the error.
func (r *installRig) run(args ...string) (string, error) {
	return r.runBinary(r.binary, args...)
}

func (r *installRig) runBinary(binary string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	var complaint bytes.Buffer
	cmd := exec.CommandContext(ctx, binary, append(args, "--config", r.client)...)
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, complaint.String())
	}
	return string(out), err
}

func (r *installRig) until(what string, ok func() bool) {
	r.t.Helper()
	for end := time.Now().Add(eventuallyWithin); time.Now().Before(end); time.Sleep(500 * time.Millisecond) {
		if ok() {
			return
		}
	}
	r.t.Fatalf("not after %s: %s", eventuallyWithin, what)
}

// machine is a new one: its root, and the flags that reach it.
func (r *installRig) machine() (root string, reach []string) {
	r.roots++
	root = filepath.Join(r.dir, "m"+strconv.Itoa(r.roots))
	r.t.Cleanup(func() { // whatever the test has left running there
		for _, pid := range under(root) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	return root, []string{"--host", r.ssh.Address, "--identity-file", r.ssh.Key, "--known-hosts", r.ssh.Known, "--root", root, "--init", "none"}
}

// under lists the processes that run a root's binary.
func under(root string) (pids []int) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if b, rerr := os.ReadFile("/proc/" + e.Name() + "/cmdline"); err == nil && rerr == nil && bytes.HasPrefix(b, []byte(root+"/usr/local/bin/")) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// engines of a root, by pid.
func enginesUnder(root string) (pids []int) {
	for _, pid := range under(root) {
		if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil && bytes.Contains(b, []byte("\x00engine\x00")) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func (r *installRig) install(binary string, reach []string, more ...string) (out installed, err error) {
	text, err := r.runBinary(binary, append(append([]string{"agent", "install", "--json"}, reach...), more...)...)
	if err != nil {
		return out, err
	}
	return out, json.Unmarshal([]byte(text), &out)
}

func (r *installRig) connected(node string) bool {
	out, err := r.run("get", "node", node, "--json")
	return err == nil && strings.Contains(out, `"connected": true`)
}

// TestInstallOverSSH installs an agent on a machine by a real sshd, gives it an engine, upgrades it under that, breaks an upgrade and
// takes it away.
func TestInstallOverSSH(t *testing.T) {
	r := newInstallRig(t)
	root, reach := r.machine()

	plan, err := r.run(append([]string{"agent", "install", "--node", "p1", "--dry-run"}, reach...)...)
	if err != nil || !strings.Contains(plan, "put them in place") {
		t.Fatalf("dry run: %v\n%s", err, plan)
	}
	if _, err := os.Stat(root); err == nil {
		t.Error("a dry run has made something")
	}
	first, err := r.install(r.binary, reach, "--node", "p1")
	if err != nil {
		t.Fatal(err)
	}
	if first.Action != "installed" || first.Version != "v1" || !r.connected("p1") {
		t.Errorf("installed: %+v", first)
	}
	for name, mode := range map[string]os.FileMode{"etc/understudy/agent.env": 0o600, "var/lib/understudy/agent": os.ModeDir | 0o700, "usr/local/bin/understudy": 0o755} {
		if s, err := os.Stat(filepath.Join(root, name)); err != nil || s.Mode() != mode {
			t.Errorf("%s: %v, %v; want mode %v", name, s, err, mode)
		}
	}
	if _, err := os.Stat(filepath.Join(root, "var/lib/understudy/agent/token")); err == nil {
		t.Error("the used token is still there")
	}

	engine := r.giveEngine("p1", root)
	second, err := r.install(r.build("v2"), reach, "--node", "p1", "--log-level", "debug")
	if err != nil {
		t.Fatal(err)
	}
	if second.Action != "upgraded" || second.Version != "v2" || second.Previous != "v1" {
		t.Errorf("upgraded: %+v", second)
	}
	r.until("the process server runs the new version", func() bool {
		now := enginesUnder(root)
		return len(now) == 1 && now[0] != engine
	})
	r.until("it serves", func() bool {
		out, err := r.run("get", "node", "p1", "--json")
		return err == nil && strings.Contains(out, `"phase": "serving"`)
	})
	r.breakUpgrade(root, reach)

	if _, err := r.run(append([]string{"agent", "uninstall"}, reach...)...); err == nil || !strings.Contains(err.Error(), "--force") {
		t.Errorf("uninstall under an engine: %v, want a refusal that names --force", err)
	}
	if _, err := r.install(r.binary, reach, "--node", "p2"); err == nil || !strings.Contains(err.Error(), "p1, which this machine is enrolled as") {
		t.Errorf("install as another node: %v", err)
	}
	if _, err := r.run(append([]string{"agent", "uninstall", "--force", "--purge"}, reach...)...); err != nil {
		t.Fatal(err)
	}
	if left := under(root); len(left) > 0 {
		t.Errorf("processes %v are left", left)
	}
	for _, name := range []string{"etc/understudy/agent.env", "var/lib/understudy/agent", "usr/local/bin/understudy", "usr/local/bin/understudy.previous"} {
		if _, err := os.Stat(filepath.Join(root, name)); err == nil {
			t.Errorf("%s is left", name)
		}
	}
}

// giveEngine has the node run a process server, and gives the engine's pid.
func (r *installRig) giveEngine(node, root string) int {
	r.t.Helper()
	file := filepath.Join(r.dir, "site.yaml")
	address := freePort(r.t)
	if err := os.WriteFile(file, fmt.Appendf(nil, `apiVersion: understudy/v1
kind: Site
metadata: {name: p}
spec: {nodes: [%[1]s]}
---
apiVersion: understudy/v1
kind: ProcessServer
metadata: {name: ps}
spec: {node: %[1]s, site: p, address: %[2]q, listen: %[2]q}
`, node, address), 0o600); err != nil {
		r.t.Fatal(err)
	}
	if _, err := r.run("apply", "-f", file); err != nil {
		r.t.Fatal(err)
	}
	r.until("the engine runs", func() bool { return len(enginesUnder(root)) == 1 })
	return enginesUnder(root)[0]
}

// breakUpgrade uploads a build that runs but connects nowhere: the one before is back, and connected.
func (r *installRig) breakUpgrade(root string, reach []string) {
	r.t.Helper()
	before, err := os.ReadFile(filepath.Join(root, "usr/local/bin/understudy"))
	if err != nil {
		r.t.Fatal(err)
	}
	settings, err := os.ReadFile(filepath.Join(root, "etc/understudy/agent.env"))
	if err != nil || !strings.Contains(string(settings), "--log-level debug") || !strings.Contains(string(settings), "--controllers "+r.cluster) {
		r.t.Errorf("settings: %s, %v", settings, err)
	}
	_, err = r.install(r.binary, reach, "--node", "p1", "--binary", "/bin/true", "--wait", "3s")
	if err == nil || !strings.Contains(err.Error(), "the machine is as it was before") {
		r.t.Errorf("an upgrade to what does not connect: %v", err)
	}
	after, err := os.ReadFile(filepath.Join(root, "usr/local/bin/understudy"))
	if err != nil || !bytes.Equal(before, after) {
		r.t.Errorf("the binary is another one (%v)", err)
	}
	r.until("the agent from before is connected", func() bool { return r.connected("p1") && len(under(root)) == 2 })
}

// TestInstallHere does without SSH, with a token that is given.
func TestInstallHere(t *testing.T) {
	r := newInstallRig(t)
	root, _ := r.machine()
	token, err := r.run("token", "create", "--node", "here")
	if err != nil {
		t.Fatal(err)
	}
	reach := []string{"--root", root, "--init", "none", "--node", "here"}
	if _, err := r.install(r.binary, reach, "--token", strings.TrimSpace(token)); err == nil || !strings.Contains(err.Error(), "--controllers") {
		t.Errorf("a token without controllers: %v", err)
	}
	if _, err := r.install(r.binary, reach, "--controllers", "127.0.0.1:1", "--wait", "2s"); err == nil || !strings.Contains(err.Error(), "its agent said last") {
		t.Errorf("controllers that are not there: %v", err)
	}
	out, err := r.install(r.binary, reach, "--token", strings.TrimSpace(token), "--controllers", r.cluster)
	if err != nil || out.Action != "installed" || !r.connected("here") {
		t.Fatalf("%+v, %v", out, err)
	}
	if out, err = r.install(r.binary, reach); err != nil || out.Action != "restarted" {
		t.Errorf("again: %+v, %v", out, err)
	}
	if _, err := r.run("agent", "uninstall", "--root", root, "--init", "none"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(root, "var/lib/understudy/agent/identity.json")); err != nil {
		t.Errorf("the identity is gone: %v", err)
	}
	if out, err = r.install(r.binary, reach); err != nil || out.Action != "installed" || !r.connected("here") {
		t.Errorf("installed again as the same node: %+v, %v", out, err)
	}
}
