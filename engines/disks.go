package engines

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/understudy-ha/understudy/nbd"
)

// DiskServer serves a machine's disks by NBD on the home's own socket, and on another address if one is wanted.
type DiskServer struct {
	home    Home
	srv     *nbd.Server
	listens map[string]net.Listener
}

// NewDiskServer serves nothing yet.
func NewDiskServer(h Home) *DiskServer {
	return &DiskServer{home: h, srv: nbd.NewServer(nbd.Config{}), listens: map[string]net.Listener{}}
}

// Socket is the unix socket that the home's own virtual machine uses.
func (d *DiskServer) Socket() string { return d.home.file("disk.sock") }

// Listen serves on the home's socket and on extra ("unix:/path" or "tcp:host:port"; "" for nowhere else).
func (d *DiskServer) Listen(ctx context.Context, extra string) error {
	for _, at := range []string{"unix:" + d.Socket(), extra} {
		if at == "" || d.listens[at] != nil {
			continue
		}
		network, address, err := nbd.ParseAddress(at)
		if err != nil {
			return err
		}
		l, err := nbd.Listen(network, address)
		if err != nil {
			return fmt.Errorf("serve disks at %s: %w", at, err)
		}
		d.listens[at] = l
		go func() { _ = d.srv.Serve(context.WithoutCancel(ctx), l) }() // ends with Close
	}
	return nil
}

// Offer offers a disk, in place of an earlier offer that was different: its clients are cut off and come again.
func (d *DiskServer) Offer(ctx context.Context, name string, b nbd.Backend, readOnly, blocking bool) error {
	e := nbd.Export{Name: name, Backend: b, ReadOnly: readOnly, Blocking: blocking}
	err := d.srv.Add(e)
	if errors.Is(err, nbd.ErrExists) {
		if err = d.srv.Remove(ctx, name); err == nil {
			err = d.srv.Add(e)
		}
	}
	return err
}

// Close cuts every client off, once what is under way is answered.
func (d *DiskServer) Close() error { return d.srv.Close() }
