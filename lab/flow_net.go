package lab

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"time"
)

// rawProtocol is the IP protocol number of the flows that are no transport of Go's.
var rawProtocol = map[FlowKind]int{FlowICMP: 1, FlowGRE: 47, FlowESP: 50}

// header is what the protocol puts in front of a frame.
func header(kind FlowKind, id uint16, number int64) []byte {
	switch kind {
	case FlowICMP: // echo request; the checksum comes last
		b := []byte{8, 0, 0, 0, 0, 0, 0, 0}
		binary.BigEndian.PutUint16(b[4:], id)
		binary.BigEndian.PutUint16(b[6:], uint16(number))
		return b
	case FlowGRE: // no key, no checksum; an experimental EtherType
		return []byte{0, 0, 0x88, 0xb5}
	case FlowESP: // a security parameter index and a sequence number
		b := make([]byte, 8)
		binary.BigEndian.PutUint32(b, 0x1000+uint32(id))
		binary.BigEndian.PutUint32(b[4:], uint32(number))
		return b
	}
	return nil
}

// packet is a whole packet of the flow above IP.
func packet(f Flow, number int64) []byte {
	b := header(f.Kind, f.ID, number)
	at := len(b)
	b = append(b, make([]byte, frameSize)...)
	putFrame(b[at:], f.ID, number)
	if f.Kind == FlowICMP {
		binary.BigEndian.PutUint16(b[2:], internetChecksum(b))
	}
	return b
}

func internetChecksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	if len(b)%2 == 1 {
		sum += uint32(b[len(b)-1]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// sendPackets sends the flow until ctx ends. An error of one packet is a lost packet: the network is what is tested.
func sendPackets(ctx context.Context, f Flow, record *sent) error {
	var conn net.Conn
	var err error
	if proto, raw := rawProtocol[f.Kind]; raw {
		conn, err = net.DialIP(fmt.Sprintf("ip4:%d", proto), &net.IPAddr{IP: net.ParseIP(f.Local)}, &net.IPAddr{IP: net.ParseIP(f.Remote)})
	} else {
		conn, err = net.DialUDP("udp4", &net.UDPAddr{IP: net.ParseIP(f.Local), Port: f.Port},
			&net.UDPAddr{IP: net.ParseIP(f.Remote), Port: f.Port})
	}
	if err != nil {
		return fmt.Errorf("flow %s: %w", f.Name, err)
	}
	defer conn.Close()
	pace := newPace(f.Interval)
	for pace.wait(ctx) {
		number := record.add(time.Now())
		_, _ = conn.Write(packet(f, number))
	}
	return nil
}

// receivePackets records what arrives of the kind until conn is closed.
func receivePackets(conn net.PacketConn, kind FlowKind, records map[uint16]*arrived) {
	b := make([]byte, 2048)
	skip := len(header(kind, 0, 0))
	for {
		n, _, err := conn.ReadFrom(b)
		if n < skip {
			if isClosed(err) {
				return
			}
			continue
		}
		if flow, number, err := readFrame(b[skip:n]); err == nil && records[flow] != nil {
			records[flow].add(number, time.Now())
		}
	}
}

// pace keeps a steady rhythm. After a stall it goes on from now instead of sending a burst.
type pace struct {
	interval time.Duration
	next     time.Time
	timer    *time.Timer
}

func newPace(interval time.Duration) *pace {
	return &pace{interval: interval, next: time.Now(), timer: time.NewTimer(0)}
}

// wait until the next beat; false when ctx ended.
func (p *pace) wait(ctx context.Context) bool {
	now := time.Now()
	if p.next = p.next.Add(p.interval); now.Sub(p.next) > 5*p.interval {
		p.next = now
	}
	p.timer.Reset(p.next.Sub(now))
	select {
	case <-ctx.Done():
		return false
	case <-p.timer.C:
		return true
	}
}
