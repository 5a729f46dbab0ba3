package replication

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/wire"
)

// ServerStatus is how a process server does.
type ServerStatus struct {
	Machines []MachineStatus // by stream
	// SpoolUsed, SpoolLeft and SpoolLimit in bytes; SpoolLeft is what may still be used.
	SpoolUsed, SpoolLeft, SpoolLimit int64
	// Sample is the newest look at the host.
	Sample Sample
	// Conditions of the process server, and of its machines with the machine's name in the message. Overall is the worst.
	Conditions []api.Condition
	Overall    api.Severity
	Since      time.Time // when it started
}

// MachineStatus is how one stream does at the process server.
type MachineStatus struct {
	Info                      StreamInfo
	Connected                 bool
	Received, Spooled, Stored uint64
	RPO                       RPO
	// Churn is what the machine itself writes: bytes a second over the last minute, and the most in one second. Blocks that are
	// read again are not churn.
	ChurnPerSecond, ChurnPeak int64
	// WaitingBytes are spooled and not stored.
	WaitingBytes int64
	LastBeat     time.Time
	Skew         time.Duration // source's clock minus ours
	InGap        bool
	Counters     MachineCounters
	Conditions   []api.Condition
}

// MachineCounters only grow while the process server lives (and the stream is there).
type MachineCounters struct {
	Sessions, Batches, Records, ReceivedBytes, ChurnBytes, SpoolSyncs int64
	// Segments are appends; UploadedBytes what they took at the object store, if the vault tells, else bytes of records.
	Segments, StoredRecords, StoredBytes, UploadedBytes, Retries int64
}

// Status may be called at any time.
func (ps *ProcessServer) Status() ServerStatus {
	now := time.Now()
	s := ServerStatus{SpoolLimit: ps.cfg.SpoolBytes, Since: ps.since}
	s.SpoolUsed, s.SpoolLeft = ps.room.room()
	ps.health.mu.Lock()
	samples := slices.Clone(ps.health.samples)
	ps.health.mu.Unlock()
	if len(samples) > 0 {
		s.Sample = samples[len(samples)-1]
	}
	s.Conditions = JudgeHealth(now, samples)
	for _, l := range ps.all() {
		m := l.status(now, ps.cfg.SilentAfter)
		s.Machines = append(s.Machines, m)
		s.Conditions = append(s.Conditions, m.Conditions...)
	}
	slices.SortFunc(s.Machines, func(a, b MachineStatus) int { return cmp.Compare(a.Info.Stream, b.Info.Stream) })
	slices.SortStableFunc(s.Conditions, func(a, b api.Condition) int {
		return cmp.Or(cmp.Compare(a.Code, b.Code), cmp.Compare(a.Message, b.Message))
	})
	s.Overall = Overall(s.Conditions)
	return s
}

func (l *lane) status(now time.Time, silentAfter time.Duration) MachineStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := &l.figures
	m := MachineStatus{Info: l.info, Connected: l.session != nil, Received: l.received, Spooled: l.spooled, Stored: l.stored,
		RPO: f.rpo.rpo, ChurnPerSecond: f.churn.perSecond(), ChurnPeak: f.churn.peak, WaitingBytes: f.arrived.bytes,
		LastBeat: f.beatAt, Skew: f.skew, InGap: f.inGap || !f.gap.since.IsZero(),
		Counters: MachineCounters{Sessions: f.sessions, Batches: f.batches, Records: f.records, ReceivedBytes: f.bytes, ChurnBytes: f.churned,
			SpoolSyncs: f.syncs, Segments: f.segments, StoredRecords: f.storedRecords, StoredBytes: f.storedBytes, UploadedBytes: f.uploaded, Retries: f.retries}}
	m.Conditions = judgeStream(now, streamView{machine: l.info.Machine, beat: f.beatAt, paused: f.paused, pausedAt: f.pausedAt, skew: f.skew, skewed: f.skewedAt,
		failing: l.failing, failingSince: l.failingSince}, silentAfter)
	return m
}

// streamView is what conditions of a stream are judged by.
type streamView struct {
	machine      string
	beat         time.Time
	paused       bool
	pausedAt     time.Time
	skew         time.Duration
	skewed       time.Time // since when it is too much
	failing      error
	failingSince time.Time
}

func judgeStream(now time.Time, v streamView, silentAfter time.Duration) (out []api.Condition) {
	if v.paused {
		out = append(out, api.Condition{Code: SpoolFull, Severity: api.Critical, Since: v.pausedAt,
			Message: fmt.Sprintf("machine %s: the spool takes no more: see the way to the vault, or give the spool more room", v.machine),
			Impacts: "the machine remembers its writes as dirty blocks; no recovery points until they are read again"})
	}
	if !v.paused && now.Sub(v.beat) >= silentAfter {
		out = append(out, api.Condition{Code: SourceSilent, Severity: api.Warning, Since: v.beat,
			Message: fmt.Sprintf("machine %s: its source was last heard of at %s: see its agent and the way to it", v.machine, v.beat.UTC().Format(time.RFC3339)),
			Impacts: "the machine is not replicated"})
	}
	if v.skew > maxSkew || v.skew < -maxSkew {
		out = append(out, api.Condition{Code: ClockSkew, Severity: api.Warning, Since: v.skewed,
			Message: fmt.Sprintf("machine %s: its source's clock is %s off ours: synchronise clocks", v.machine, v.skew.Round(time.Second)),
			Impacts: "times of recovery points"})
	}
	if v.failing != nil {
		out = append(out, api.Condition{Code: VaultUnreachable, Severity: api.Warning, Since: v.failingSince,
			Message: fmt.Sprintf("machine %s: %v; tried again", v.machine, v.failing), Impacts: "the received RPO grows"})
	}
	return out
}

// Health answers anybody with a certificate of the cluster. Conditions of single machines are left out: they belong to tenants.
func (v *service) Health(context.Context, *wire.HealthRequest) (*wire.HealthReply, error) {
	now := time.Now()
	ps := v.ps
	ps.health.mu.Lock()
	samples := slices.Clone(ps.health.samples)
	ps.health.mu.Unlock()
	conditions := JudgeHealth(now, samples)
	used, _ := ps.room.room()
	out := &wire.HealthReply{Overall: string(Overall(conditions)), SpoolUsedBytes: used, SpoolLimitBytes: ps.cfg.SpoolBytes,
		NowUnixNs: now.UnixNano(), Version: ps.cfg.Version}
	if len(samples) > 0 {
		if out.UploadEtaMs = samples[len(samples)-1].UploadETA.Milliseconds(); samples[len(samples)-1].UploadETA == Never {
			out.UploadEtaMs = -1
		}
	}
	for _, c := range conditions {
		out.Conditions = append(out.Conditions, &wire.HealthCondition{Code: c.Code, Severity: string(c.Severity), Message: c.Message,
			Impacts: c.Impacts, SinceUnixNs: c.Since.UnixNano()})
	}
	return out, nil
}
