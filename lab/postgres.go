package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/understudy-ha/understudy/api"
)

// pgTable is what the lab commits rows to, beside pgbench's own load. A row's number says how many there are before it.
const pgTable = "CREATE TABLE witness (n bigint PRIMARY KEY, filler text);"

// runPostgres destroys the site of a Debian machine with PostgreSQL under pgbench. Every row whose commit was answered before
// the recovery point must be there.
func runPostgres(ctx context.Context, o Options) (r Result, err error) {
	if len(o.Faults) > 0 {
		return r, refuse("fault", fmt.Sprint(o.Faults), "none: what is lost is the whole site")
	}
	l, err := newMachineLab(ctx, o, &r)
	defer func() { err = errors.Join(err, l.close()) }()
	if err != nil {
		return r, err
	}
	l.guest = debianGuest
	l.say("a Debian machine with PostgreSQL runs at p; this takes some minutes")
	if err := l.beginMachine(ctx, 0, func(ctx context.Context) error { return l.waitPostgres(ctx, "p1", 15*time.Minute) }); err != nil {
		return r, err
	}
	w, err := l.startWitness(ctx)
	if err != nil {
		return r, err
	}
	defer w.stop()
	duration := o.Duration
	if duration == 0 {
		duration = 2 * time.Minute
	}
	if err := l.sampleRPO(ctx, duration); err != nil {
		return r, err
	}
	if err := l.destroy(); err != nil {
		return r, err
	}
	w.stop()
	began := time.Now()
	j, err := l.do(ctx, api.Operation{Operation: api.OpFailover, Point: &api.PointChoice{Kind: api.PointLatestProcessed}}, 20*time.Minute)
	if err != nil {
		return r, err
	}
	if err := l.waitPostgres(ctx, "r1", 15*time.Minute); err != nil {
		return r, err
	}
	r.figure(Figure{Name: "rto_p50", Value: milliseconds(time.Since(began)), Unit: "ms", Fault: "site"})
	m, err := l.machine()
	if err != nil || m.Status.Assignment == nil || m.Status.Assignment.Machine.Run.Point == nil {
		return r, fmt.Errorf("job %s named no point (%w)", j.Metadata.Name, err)
	}
	at := m.Status.Assignment.Machine.Run.Point.At
	out, err := l.psql(ctx, "r1", "SELECT count(*), coalesce(max(n), 0) FROM witness")
	if err != nil {
		return r, err
	}
	var rows, last int64
	if _, err := fmt.Sscanf(strings.ReplaceAll(out, "|", " "), "%d %d", &rows, &last); err != nil {
		return r, fmt.Errorf("psql answers %q: %w", out, err)
	}
	due := w.committedBefore(at)
	r.check("no committed row is missing", last >= due && rows == last, "the point is of %s; row %d had been committed before it, %d rows up to %d are there; %d were committed in all",
		at.Format(time.TimeOnly), due, rows, last, w.committedBefore(time.Now()))
	_, err = l.psql(ctx, "r1", "SELECT sum(abalance) FROM pgbench_accounts; INSERT INTO witness VALUES (-1, 'after')")
	r.check("it goes on", err == nil, "pgbench's tables are read and a row is written (%v)", err)
	return r, nil
}

// psql runs statements on the machine's PostgreSQL, reached at a host.
func (l *machineLab) psql(ctx context.Context, host, statements string) (string, error) {
	return l.topo.spaces[host].output(ctx, "psql", append(pgArgs(host), "-At", "-c", statements)...)
}

func pgArgs(host string) []string {
	return []string{"-h", machineAddress(host), "-p", servicePort, "-U", "postgres"}
}

func (l *machineLab) waitPostgres(ctx context.Context, host string, limit time.Duration) (err error) {
	if !waitFor(ctx, limit, func() bool {
		once, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		_, err = l.psql(once, host, "SELECT 1")
		return err == nil || sleep(ctx, time.Second) != nil
	}) {
		return fmt.Errorf("PostgreSQL does not answer at %s after %s: %w", host, limit, err)
	}
	return err
}

// rowWitness commits rows one after the other and notes when each was answered.
type rowWitness struct {
	procs []*process
	in    *os.File
	mu    sync.Mutex
	at    []time.Time // of row i+1
	once  sync.Once
}

// startWitness starts pgbench, and the witness beside it.
func (l *machineLab) startWitness(ctx context.Context) (*rowWitness, error) {
	if _, err := l.topo.spaces["p1"].output(ctx, "pgbench", append(pgArgs("p1"), "-i", "-q", "-s", "1", "postgres")...); err != nil {
		return nil, err
	}
	if _, err := l.psql(ctx, "p1", pgTable); err != nil {
		return nil, err
	}
	w := &rowWitness{}
	bench, err := l.start("p1", program{name: "pgbench", path: "pgbench", args: append(pgArgs("p1"), "-c", "2", "-T", "3600", "postgres")})
	if err != nil {
		return nil, err
	}
	w.procs = append(w.procs, bench)
	in, feed, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	answers, out, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, feed.Close())
	}
	defer out.Close()
	psql, err := l.start("p1", program{name: "witness", path: "psql", args: append(pgArgs("p1"), "-At", "-q"), stdin: in, stdout: out})
	if err != nil {
		return nil, errors.Join(err, feed.Close(), answers.Close())
	}
	w.procs, w.in = append(w.procs, psql), feed
	go w.run(answers)
	return w, nil
}

// run commits row after row until psql ends.
func (w *rowWitness) run(answers *os.File) {
	defer answers.Close()
	lines := bufio.NewScanner(answers)
	for n := 1; ; n++ {
		if _, err := fmt.Fprintf(w.in, "INSERT INTO witness VALUES (%d, repeat('x', 500)) RETURNING n;\n", n); err != nil {
			return
		}
		if !lines.Scan() || lines.Text() != strconv.Itoa(n) {
			return
		}
		w.mu.Lock()
		w.at = append(w.at, time.Now())
		w.mu.Unlock()
	}
}

// committedBefore is the last row whose commit was answered before a time.
func (w *rowWitness) committedBefore(t time.Time) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for n < len(w.at) && w.at[n].Before(t) {
		n++
	}
	return int64(n)
}

func (w *rowWitness) stop() {
	w.once.Do(func() {
		for _, p := range w.procs {
			p.kill()
		}
		_ = w.in.Close()
	})
}
