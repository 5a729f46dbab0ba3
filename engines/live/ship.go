package live

import (
	"log/slog"

	"github.com/understudy-ha/understudy/capture/disk"
	"github.com/understudy-ha/understudy/engines"
	"github.com/understudy-ha/understudy/replication"
)

// setShipping keeps a sender while there is somebody to send to and the stream is this machine's. A new generation has a new one.
func (m *Machine) setShipping(was, s Spec) (err error) {
	ship := len(s.ProcessServers) > 0 && s.Access != disk.ReadOnly
	if !ship || was.Epoch != s.Epoch {
		err = m.endSender()
	}
	m.capture.SetShipping(ship)
	if !ship || err != nil {
		return err
	}
	var targets []replication.Target
	for _, a := range s.ProcessServers {
		targets = append(targets, replication.Target{Address: a})
	}
	if m.sender != nil {
		m.sender.Set(targets)
		return m.id.Refresh(s.Config.IdentityFile)
	}
	if m.id, err = engines.ReadNodeIdentity(s.Config.IdentityFile); err != nil {
		return err
	}
	info := replication.StreamInfo{Machine: s.Machine, UID: s.UID, Stream: s.Stream, Epoch: s.Epoch}
	for i, d := range s.Disks {
		info.Disks = append(info.Disks, replication.Disk{ID: d.Name, Size: m.lowers[i].Size()})
	}
	sender, err := replication.StartSender(replication.SenderConfig{Source: m.capture, Lag: lagOf(m.capture), Stream: info, Targets: targets,
		CA: m.id.CA, Cert: m.id.Cert, Log: slog.Default()})
	if err == nil {
		m.mu.Lock()
		m.sender = sender
		m.mu.Unlock()
	}
	return err
}

// endSender stops shipping; setting is held.
func (m *Machine) endSender() error {
	if m.sender == nil {
		return nil
	}
	err := m.sender.Close()
	m.mu.Lock()
	m.sender = nil
	m.mu.Unlock()
	return err
}

// lagOf tells a sender how far the capture is behind.
func lagOf(c *disk.Machine) func() replication.Lag {
	return func() replication.Lag {
		p := c.Position()
		return replication.Lag{Captured: p.Captured, Oldest: p.OldestUnsent, QueueBytes: p.QueueBytes, InGap: p.InGap}
	}
}
