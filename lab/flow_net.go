package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
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
func packet(f Flow, number int64, now time.Time) []byte {
	b := header(f.Kind, f.ID, number)
	at := len(b)
	b = append(b, make([]byte, frameSize)...)
	frame{f.ID, number, now.UnixNano()}.put(b[at:])
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
		now := time.Now()
		_, _ = conn.Write(packet(f, record.add(now), now))
	}
	return nil
}

// listen opens the socket of a flow that comes in; the kernel stamps what arrives, so that a receiver that is held up
// does not look like a network that is.
func listen(f Flow) (packetSocket, error) {
	var conn packetSocket
	var err error
	if proto, raw := rawProtocol[f.Kind]; raw {
		conn, err = net.ListenIP(fmt.Sprintf("ip4:%d", proto), &net.IPAddr{IP: net.IPv4zero})
	} else {
		conn, err = net.ListenUDP("udp4", &net.UDPAddr{Port: f.Port})
	}
	if err != nil {
		return nil, fmt.Errorf("flow %s: %w", f.Name, err)
	}
	raw, err := conn.SyscallConn()
	if err == nil {
		err = errors.Join(raw.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
		}), err)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("flow %s: time stamps: %w", f.Name, err), conn.Close())
	}
	return conn, nil
}

// packetSocket is a UDP or raw IP socket.
type packetSocket interface {
	net.PacketConn
	syscall.Conn
}

// read gives a packet without its IP header, and when it arrived.
func read(conn packetSocket, b, oob []byte) (n int, at int64, err error) {
	var oobn int
	skip := 0
	switch c := conn.(type) {
	case *net.UDPConn:
		n, oobn, _, _, err = c.ReadMsgUDP(b, oob)
	case *net.IPConn:
		n, oobn, _, _, err = c.ReadMsgIP(b, oob)
		if n > 0 {
			skip = int(b[0]&0x0f) * 4 // unlike ReadFrom, ReadMsgIP keeps the IP header
		}
	}
	if err != nil || skip > n {
		return 0, 0, err
	}
	copy(b, b[skip:n])
	return n - skip, arrivalTime(oob[:oobn]), nil
}

// arrivalTime reads the kernel's stamp; now, if there is none.
func arrivalTime(oob []byte) int64 {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err == nil {
		for _, m := range messages {
			if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SO_TIMESTAMPNS && len(m.Data) >= 16 {
				return int64(binary.NativeEndian.Uint64(m.Data))*1e9 + int64(binary.NativeEndian.Uint64(m.Data[8:]))
			}
		}
	}
	return time.Now().UnixNano()
}

// receivePackets records what arrives of the kind until conn is closed.
func receivePackets(conn packetSocket, kind FlowKind, records map[uint16]*arrived) {
	b, oob := make([]byte, 2048), make([]byte, 128)
	skip := len(header(kind, 0, 0))
	for {
		n, at, err := read(conn, b, oob)
		if isClosed(err) {
			return
		}
		if err != nil || n < skip {
			continue // an ICMP error of a packet we sent: the network is what is tested
		}
		if f, err := readFrame(b[skip:n]); err == nil && records[f.flow] != nil {
			records[f.flow].add(f, at)
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
