package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
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
	for _, device := range []string{tunOutside, tunInside} {
		for range 200 {
			if _, err := s.nl.LinkByName(device); err == nil {
				break
			}
			if err := sleep(ctx, 10*1e6); err != nil {
				return err
			}
		}
		if err := s.addAddress(device, ""); err != nil {
			return err
		}
	}
	for i, path := range [][2]string{{netOutside, tunOutside}, {netInside, tunInside}} {
		table := fmt.Sprint(100 + i)
		// The rule may be there from before a crash; the routes went with the device.
		_, _ = s.output(ctx, "", "ip", "rule", "del", "iif", path[0], "table", table)
		for _, args := range [][]string{
			{"rule", "add", "iif", path[0], "table", table},
			{"route", "replace", "unreachable", "default", "metric", "1000", "table", table},
			{"route", "replace", "default", "dev", path[1], "table", table},
		} {
			if _, err := s.output(ctx, "", "ip", args...); err != nil {
				return err
			}
		}
	}
	return s.nft(ctx, steeringRules)
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
