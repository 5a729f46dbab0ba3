package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/understudy-ha/understudy/hostnet"
)

// The user-space data plane. The kernel hands what comes in on a data link to one tunnel device; the appliance's
// process reads it there and writes it to the other one, where the kernel takes it up again and routes it out:
//
//	out ─► utun-out ─► process ─► utun-in ─► in        and back the same way
//
// Connection tracking, translation and the filter stay on the outer side only. When the process dies its devices go,
// and the routes below end at an unreachable one: nothing passes beside the process.
const (
	tunOutside = "utun-out"
	tunInside  = "utun-in"
)

// steeringRules keep the inner side of the user-space path untracked, else the kernel would see every connection twice.
const steeringRules = `
table inet nva-steer
delete table inet nva-steer
table inet nva-steer {
	chain prerouting {
		type filter hook prerouting priority raw;
		iifname { "in", "` + tunInside + `" } notrack
	}
}
`

// steerToUserSpace waits for the process's devices and sends data packets through them.
func (l *nvaLab) steerToUserSpace(ctx context.Context, name string) error {
	s := l.topo.spaces[name]
	for i, path := range [][2]string{{netOutside, tunOutside}, {netInside, tunInside}} {
		link, device := path[0], path[1]
		if err := waitLinkUp(ctx, s, device); err != nil {
			return err
		}
		table := 100 + i
		if err := s.AddRule(hostnet.Rule{Priority: table, In: link, Table: uint32(table)}); err != nil {
			return err
		}
		for _, route := range []string{
			fmt.Sprintf("unreachable default metric 1000 table %d", table),
			fmt.Sprintf("default dev %s table %d", device, table),
		} {
			if _, err := s.Run("ip", append([]string{"route", "replace"}, strings.Fields(route)...)...); err != nil {
				return err
			}
		}
	}
	return s.ChangeTable(steeringRules)
}

// waitLinkUp brings up a link that another process is about to make.
func waitLinkUp(ctx context.Context, s *space, link string) error {
	var err error
	for range 200 {
		if err = s.SetUp(link, true); err == nil {
			return nil
		}
		if err := sleep(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	return err
}

// forwarder carries packets between the two tunnel devices.
type forwarder struct {
	outside, inside *os.File
	wg              sync.WaitGroup
}

func openForwarder() (*forwarder, error) {
	outside, err := openTun(tunOutside)
	if err != nil {
		return nil, err
	}
	inside, err := openTun(tunInside)
	if err != nil {
		return nil, errors.Join(err, outside.Close())
	}
	return &forwarder{outside: outside, inside: inside}, nil
}

func openTun(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	req, err := unix.NewIfreq(name)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("tunnel %s: %w", name, err), unix.Close(fd))
	}
	req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		return nil, errors.Join(fmt.Errorf("tunnel %s: %w", name, err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), name), nil
}

func (f *forwarder) run() {
	f.wg.Go(func() { carry(f.outside, f.inside) })
	f.wg.Go(func() { carry(f.inside, f.outside) })
}

// carry moves packets one way until a device is closed. A packet the kernel refuses is a lost packet.
func carry(from, to *os.File) {
	b := make([]byte, 65536)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		_, _ = to.Write(b[:n])
	}
}

func (f *forwarder) close() {
	f.outside.Close()
	f.inside.Close()
	f.wg.Wait()
}
