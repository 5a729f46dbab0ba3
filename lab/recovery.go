package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/understudy-ha/understudy/api"
)

// destroy takes site P away at once: every process in it, and every file that was there.
func (l *machineLab) destroy() error {
	errs := []error{l.cut(true)}
	for _, name := range siteP {
		l.topo.spaces[name].killAll()
	}
	for _, path := range []string{filepath.Join(l.dir, "p"), l.agentDir("p1"), l.agentDir("psp"), filepath.Join(l.dir, "cluster", "c1")} {
		errs = append(errs, os.RemoveAll(path))
	}
	return errors.Join(errs...)
}

// runRecovery destroys the machine's site, with the guest, the process server, its spool, the site's controller and keys, and
// runs the machine at the other one.
func runRecovery(ctx context.Context, o Options) (r Result, err error) {
	if len(o.Faults) > 0 {
		return r, refuse("fault", fmt.Sprint(o.Faults), "none: what is lost is the whole site")
	}
	var times, lost []float64
	for i := range o.rounds(1) {
		took, records, err := recoverOnce(ctx, o, &r, i == 0)
		if err != nil {
			return r, err
		}
		times, lost = append(times, milliseconds(took)), append(lost, float64(records))
	}
	if err := recoverFromVault(ctx, o, &r); err != nil {
		return r, err
	}
	slices.Sort(times)
	r.figure(Figure{Name: "rto_p50", Value: times[len(times)/2], Unit: "ms", Fault: "site"})
	r.figure(Figure{Name: "lost_records", Value: slices.Max(lost), Unit: "count", Fault: "site"})
	return r, nil
}

func recoverOnce(ctx context.Context, o Options, r *Result, sample bool) (took time.Duration, lost uint64, err error) {
	l, err := startMachine(ctx, o, r, 20)
	defer func() { err = errors.Join(err, l.close()) }()
	if err != nil {
		return 0, 0, err
	}
	if sample {
		if err := l.sampleRPO(ctx, 10*time.Second); err != nil {
			return 0, 0, err
		}
	}
	last, err := l.service(ctx, "p1", servicePort)
	if err != nil {
		return 0, 0, err
	}
	if err := l.destroy(); err != nil {
		return 0, 0, err
	}
	l.say("  site p is gone, at record %d", last.Seq)
	began := time.Now()
	job, err := l.operate(ctx, api.Operation{Operation: api.OpFailover, Point: &api.PointChoice{Kind: api.PointLatestProcessed}})
	if err != nil {
		return 0, 0, err
	}
	s, took, err := l.waitService(ctx, "r1", servicePort, began, bootLimit)
	if err != nil {
		_, jobErr := l.waitJob(ctx, job, time.Second)
		return 0, 0, errors.Join(err, jobErr)
	}
	if _, err := l.waitJob(ctx, job, jobLimit); err != nil {
		return 0, 0, err
	}
	lost = last.Seq - min(last.Seq, s.Found)
	l.say("  it answers at r after %.1f s, from record %d", took.Seconds(), s.Found)
	r.check("the machine's data are whole", s.Verified, "record %d and all before it (%s)", s.Found, s.Wrong)
	r.check("little is lost", lost <= 20*5, "%d records of the last moments, 20 a second", lost)
	if _, err := l.do(ctx, api.Operation{Operation: api.OpCommit}, jobLimit); err != nil {
		return 0, 0, err
	}
	later, err := l.service(ctx, "r1", servicePort)
	if err != nil {
		return 0, 0, err
	}
	r.check("it goes on there", later.Seq > s.Found, "record %d", later.Seq)
	return took, lost, nil
}

// recoverFromVault loses every controller and every agent too: what is left is the vault and the file with its key.
func recoverFromVault(ctx context.Context, o Options, r *Result) (err error) {
	l, err := startMachine(ctx, o, r, 20)
	defer func() { err = errors.Join(err, l.close()) }()
	if err != nil {
		return err
	}
	if err := l.waitMirror(ctx); err != nil {
		return err
	}
	last, err := l.service(ctx, "p1", servicePort)
	if err != nil {
		return err
	}
	if err := l.destroy(); err != nil {
		return err
	}
	for _, name := range []string{"c2", "c3", "r1", "psr"} {
		l.topo.spaces[name].killAll()
	}
	for _, path := range []string{filepath.Join(l.dir, "cluster"), l.agentDir("r1"), l.agentDir("psr")} {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	l.say("  everything is gone but the vault and its key, at record %d", last.Seq)
	began := time.Now()
	if err := l.rebuild(ctx); err != nil {
		return err
	}
	rebuilt := time.Since(began)
	job, err := l.operate(ctx, api.Operation{Operation: api.OpFailover, Point: &api.PointChoice{Kind: api.PointLatestProcessed}})
	if err != nil {
		return err
	}
	s, took, err := l.waitService(ctx, "r1", servicePort, began, bootLimit)
	if err != nil {
		_, jobErr := l.waitJob(ctx, job, time.Second)
		return errors.Join(err, jobErr)
	}
	l.say("  a controller after %.1f s, the machine answers after %.1f s, from record %d", rebuilt.Seconds(), took.Seconds(), s.Found)
	r.check("from the vault alone the data are whole", s.Verified && last.Seq-min(last.Seq, s.Found) <= 20*5, "record %d and all before it; the last was %d (%s)", s.Found, last.Seq, s.Wrong)
	r.figure(Figure{Name: "rto_p50", Value: milliseconds(took), Unit: "ms", Fault: "vault-alone"})
	return nil
}

// waitMirror waits until the vault tells of the machine.
func (l *machineLab) waitMirror(ctx context.Context) error {
	if !waitFor(ctx, time.Minute, func() bool {
		found, _ := filepath.Glob(filepath.Join(l.vaultDir("r"), "resources", "ProtectedMachine", "*", "*"))
		return len(found) > 0
	}) {
		return errors.New("after a minute the vault has no copy of the machine's resource")
	}
	return sleep(ctx, 2*time.Second) // what changed last, too
}

// rebuild makes a controller from the vault, and enrols the host of site r anew.
func (l *machineLab) rebuild(ctx context.Context) error {
	key, dir := filepath.Join(l.dir, "site.key"), filepath.Join(l.dir, "new")
	if err := os.WriteFile(key, []byte(l.keys["vr"].String()+"\n"), 0o600); err != nil {
		return err
	}
	at := l.topo.spaces["c2"]
	if _, err := at.output(ctx, l.binary, "server", "recover", "--vault", "file://"+l.vaultDir("r"), "--key", key, "--dir", dir, "--name", "c2", "--address", machineAddress("c2")); err != nil {
		return err
	}
	var err error
	if l.procs["c2"], err = l.start("c2", program{name: "c2-recovered", path: l.binary, args: []string{"server", "--dir", dir}}); err != nil {
		return err
	}
	l.config, l.agents = filepath.Join(dir, "client.yaml"), machineAddress("c2")+":"+agentPort
	if err := l.openDesk(ctx); err != nil {
		return err
	}
	delete(l.tokens, "r1")
	return l.startAgent(ctx, "r1")
}
