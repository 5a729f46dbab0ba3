package replication

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	sampleEvery = 10 * time.Second
	samplesKept = int(healthWindow/sampleEvery) + 6
)

// healthState keeps the samples that health is judged by.
type healthState struct {
	mu      sync.Mutex
	samples []Sample
	cpu     cpuTimes
}

// sampleLoop looks at the streams once a second, and at the host every ten.
func (ps *ProcessServer) sampleLoop() {
	for n := 0; sleep(ps.ctx, time.Second) == nil; n++ {
		now := time.Now()
		full := ps.room.full()
		for _, l := range ps.all() {
			l.mu.Lock()
			l.figures.sample(now)
			l.mu.Unlock()
			if full {
				l.trim()
			}
		}
		if n%int(sampleEvery/time.Second) == 0 {
			ps.sampleHost(now)
		}
	}
}

func (ps *ProcessServer) sampleHost(now time.Time) {
	_, left := ps.room.room()
	s := Sample{At: now, Mem: -1, CPU: -1, SpoolFree: float64(left) / float64(ps.cfg.SpoolBytes)}
	if ps.cfg.Services != nil {
		s.Down = ps.cfg.Services()
	}
	if mem, err := readMemory("/proc/meminfo"); err == nil {
		s.Mem = mem
	}
	cpu, err := readCPU("/proc/stat")
	h := &ps.health
	h.mu.Lock()
	defer h.mu.Unlock()
	if err == nil {
		s.CPU, h.cpu = cpu.since(h.cpu), cpu
	}
	s.UploadETA = ps.uploadETA()
	if len(h.samples) >= samplesKept {
		h.samples = slices.Delete(h.samples, 0, 1)
	}
	h.samples = append(h.samples, s)
}

// uploadETA is how long everything that waits takes at the last minute's rate.
func (ps *ProcessServer) uploadETA() time.Duration {
	var waiting, perSecond int64
	for _, l := range ps.all() {
		l.mu.Lock()
		perSecond += l.figures.upload.perSecond()
		waiting += l.figures.arrived.bytes
		l.mu.Unlock()
	}
	switch {
	case waiting == 0:
		return 0
	case perSecond <= 0:
		return Never
	}
	return time.Duration(float64(waiting) / float64(perSecond) * float64(time.Second))
}

// cpuTimes are counters of /proc/stat.
type cpuTimes struct{ busy, all uint64 }

// since gives the busy part of all processors' time; negative if no time has passed.
func (c cpuTimes) since(before cpuTimes) float64 {
	if before.all == 0 || c.all <= before.all {
		return -1
	}
	return float64(c.busy-before.busy) / float64(c.all-before.all)
}

// readCPU reads the first line of /proc/stat: user nice system idle iowait irq softirq steal.
func readCPU(path string) (cpuTimes, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return cpuTimes{}, err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return cpuTimes{}, fmt.Errorf("%s begins with %q", path, line)
	}
	var c cpuTimes
	for i, f := range fields[1:9] {
		n, err := strconv.ParseUint(f, 10, 64)
		if err != nil {
			return cpuTimes{}, fmt.Errorf("%s: %w", path, err)
		}
		c.all += n
		if i != 3 && i != 4 {
			c.busy += n
		}
	}
	return c, nil
}

// readMemory gives the used part of the memory.
func readMemory(path string) (float64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	kib := map[string]float64{}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) >= 2 {
			kib[f[0]], _ = strconv.ParseFloat(f[1], 64)
		}
	}
	if kib["MemTotal:"] <= 0 || kib["MemAvailable:"] <= 0 {
		return 0, fmt.Errorf("%s has no MemTotal and MemAvailable", path)
	}
	return 1 - kib["MemAvailable:"]/kib["MemTotal:"], nil
}
