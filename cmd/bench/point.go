package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/understudy-ha/understudy/capture"
	"github.com/understudy-ha/understudy/capture/disk"
	"github.com/understudy-ha/understudy/journal"
	"github.com/understudy-ha/understudy/nbd"
)

const pointsARound = 1000

// benchPoint makes points on a captured disk and looks at what comes into the stream.
func benchPoint(ctx context.Context, o options, dir, _ string, r *report) (err error) {
	path := filepath.Join(dir, "disk.raw")
	if err := fill(path, 64<<20); err != nil {
		return err
	}
	lower, err := nbd.OpenFile(path, nbd.FileOptions{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lower.Close()) }()
	m, err := disk.Open(disk.Config{Dir: filepath.Join(dir, "capture"), Stream: stream, Epoch: 1, Access: disk.Writable, Initial: []capture.Range{},
		Disks: []disk.DiskConfig{{ID: "root", Lower: lower}}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	d := &drain{m: m, done: make(chan struct{})}
	during, cancel := context.WithCancel(ctx)
	go d.run(during)
	defer func() { cancel(); <-d.done }()
	for m.Position().InGap { // the stream's beginning
		time.Sleep(time.Millisecond)
	}
	before := m.Position().Captured
	var micros []float64
	for i := range o.rounds * pointsARound {
		info := journal.PointInfo{ID: fmt.Sprintf("point-%024d", i), At: time.Now().UTC(), Consistency: journal.Crash}
		began := time.Now()
		if _, err := m.Point(ctx, info); err != nil {
			return err
		}
		micros = append(micros, float64(time.Since(began).Nanoseconds())/1000)
	}
	records := float64(m.Position().Captured-before) / float64(len(micros))
	for d.upTo() < m.Position().Captured {
		time.Sleep(time.Millisecond)
	}
	cancel()
	<-d.done
	slices.Sort(micros)
	r.figure("point_records", records, "records", "", "")
	r.figure("point_bytes", float64(d.bytes)/float64(max(d.points, 1)), "bytes", "", "")
	r.figure("point_us_p50", micros[len(micros)/2], "µs", "", "")
	r.figure("point_us_p99", micros[len(micros)*99/100], "µs", "", "")
	r.check("a point is one record", records == 1 && d.points == len(micros), "%d points made %.3f records each, of %.0f bytes in the stream, in %.1f µs (p99 %.1f)",
		d.points, records, float64(d.bytes)/float64(max(d.points, 1)), micros[len(micros)/2], micros[len(micros)*99/100])
	return nil
}

// drain takes everything that is captured, as if it was stored at once.
type drain struct {
	m             *disk.Machine
	done          chan struct{}
	points, bytes int // of points; to be read after done
}

func (d *drain) run(ctx context.Context) {
	defer close(d.done)
	for {
		recs, err := d.m.Next(ctx)
		if err != nil {
			return
		}
		for i := range recs {
			if recs[i].Kind == journal.Point {
				d.points++
				d.bytes += journal.RecordSize(&recs[i])
			}
		}
		d.m.Stored(recs[len(recs)-1].Seq)
	}
}

func (d *drain) upTo() uint64 { return d.m.Position().Stored }
