package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
)

// plainLoads of the bench nbd. The goal of each is a ratio of at least 0.9.
var plainLoads = []workload{
	{"4k_randwrite_qd32", "iops", []string{"--rw=randwrite", "--bs=4k", "--iodepth=32"}},
	{"4k_randwrite_qd1", "iops", []string{"--rw=randwrite", "--bs=4k", "--iodepth=1"}},
	{"1m_seqwrite_qd8", "MiB/s", []string{"--rw=write", "--bs=1M", "--iodepth=8"}},
}

// benchNBD compares `understudy nbd serve FILE` with `nbdkit file FILE`.
func benchNBD(ctx context.Context, o options, dir, _ string, r *report) (err error) {
	var both [2]target
	for i, serve := range []func(context.Context, options, int, string) (target, error){serveOurs, serveNbdkit} {
		disk := filepath.Join(dir, "disk"+string(rune('0'+i))+".raw")
		if err := fill(disk, o.size); err != nil {
			return err
		}
		t, err2 := serve(ctx, o, anyCore, disk)
		if err2 != nil {
			return err2
		}
		defer func() { err = errors.Join(err, t.stop()) }()
		both[i] = t
	}
	for _, w := range plainLoads {
		ours, theirs, err := compare(ctx, o, w, both[0], both[1])
		if err != nil {
			return err
		}
		r.contenders(w, ours, theirs, "nbdkit file")
		r.atLeast(0.9, "nbd_ratio", byRound(ours, theirs, rate), "nbdkit file", w.name)
	}
	return nil
}

// compare runs one workload's rounds.
func compare(ctx context.Context, o options, w workload, a, b target) (as, bs []sample, err error) {
	return abba(o.rounds, func() (sample, error) { return a.fio(ctx, w, o.seconds) }, func() (sample, error) { return b.fio(ctx, w, o.seconds) },
		func(i int, x, y sample) {
			say("%s round %d/%d: %s %.0f beside %s %.0f %s, ratio %.3f", w.name, i, o.rounds, a.name, x.value, b.name, y.value, w.unit, x.value/y.value)
		})
}

// contenders notes how each did.
func (r *report) contenders(w workload, ours, theirs []sample, peer string) {
	for name, list := range map[string][]sample{"": ours, peer: theirs} {
		m := mean(list)
		r.figure("rate", m.value, w.unit, name, w.name)
		r.figure("p99_us", m.p99, "µs", name, w.name)
		r.figure("cpu_us_per_request", m.cpu/m.requests, "µs", name, w.name)
	}
}

// serveOurs serves a raw file by ourselves.
func serveOurs(ctx context.Context, o options, core int, disk string) (target, error) {
	return serveFile(ctx, "understudy", core, disk, o.understudy, "nbd", "serve", disk, "--listen", "unix:"+disk+".sock", "--name", "disk")
}

// serveNbdkit serves a raw file by nbdkit.
func serveNbdkit(ctx context.Context, _ options, core int, disk string) (target, error) {
	return serveFile(ctx, "nbdkit", core, disk, "nbdkit", "--foreground", "--unix", disk+".sock", "file", disk)
}

func serveFile(ctx context.Context, name string, core int, disk string, argv ...string) (t target, err error) {
	info, err := os.Stat(disk)
	if err != nil {
		return t, err
	}
	p, err := start(name, core, argv...)
	if err != nil {
		return t, err
	}
	return target{process: p, uri: at(disk+".sock", "disk"), size: info.Size(), core: core}, p.listens(ctx, disk+".sock")
}

// fill makes a file with every block written.
func fill(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	block := bytes.Repeat([]byte{0x5a}, 1<<20)
	for at := int64(0); at < size && err == nil; at += int64(len(block)) {
		_, err = f.Write(block)
	}
	return errors.Join(err, f.Close())
}
