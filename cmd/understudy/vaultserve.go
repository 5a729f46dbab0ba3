package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/understudy-ha/understudy/nbd"
	"github.com/understudy-ha/understudy/vault"
	"github.com/understudy-ha/understudy/volume"
)

// vaultServeFlags say which disks are served, and how.
type vaultServeFlags struct {
	vaultFlags
	stream, point, listen, overlay string
}

func vaultServeVerb(c *console) *cobra.Command {
	var f vaultServeFlags
	cmd := &cobra.Command{
		Use:   "serve --vault URL --key FILE --stream ID --listen unix:/PATH|tcp:HOST:PORT",
		Short: "Serve the disks of a machine, as they were at a recovery point, without copying them",
		Long: `Serve the disks of a machine, as they were at a recovery point, over NBD until interrupted: to get a few files back, or to look at a
point before a machine is failed over to it. Nothing is copied, and neither a controller nor an agent is needed. Each disk is an export under
its name. What is read is pinned in the vault meanwhile.

They are read-only; with --overlay they can be written, as mounting a file system that was not shut down wants, and what is written goes to
files in that directory. TCP is neither encrypted nor asks who is there.`,
		Example: `  understudy vault serve --vault file:///srv/vault --key site.key --stream 7c1f-1 --overlay /tmp/look --listen unix:/tmp/look.sock
  nbdfuse /mnt/disk 'nbd+unix:///root?socket=/tmp/look.sock' & then mount or guestmount what is in it`,
		Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error { return c.serveVault(cmd.Context(), &f) },
	}
	f.add(cmd, true)
	flags := cmd.Flags()
	flags.StringVar(&f.stream, "stream", "", "the stream, as vault inspect lists it")
	flags.StringVar(&f.point, "point", "latest", "id of the recovery point, its position as @NUMBER, or latest")
	flags.StringVar(&f.listen, "listen", "", "unix:/PATH or tcp:HOST:PORT to serve on")
	flags.StringVar(&f.overlay, "overlay", "", "directory to make for what is written (default: nothing can be written)")
	return cmd
}

func (c *console) serveVault(ctx context.Context, f *vaultServeFlags) error {
	if f.stream == "" {
		return usagef("vault serve: --stream is missing: want one of those that vault inspect lists")
	}
	network, address, err := nbd.ParseAddress(f.listen)
	if err != nil {
		return usagef("vault serve: --listen %q: want unix:/PATH or tcp:HOST:PORT", f.listen)
	}
	v, s, err := f.open(ctx, true)
	if err != nil {
		return err
	}
	defer s.Close()
	_, seq, err := past(ctx, v, "vault serve", f.stream, f.point)
	if err != nil {
		return err
	}
	w, err := v.View(ctx, f.stream, seq)
	if err != nil {
		return err
	}
	defer w.Close()
	if f.overlay != "" {
		if err := os.Mkdir(f.overlay, 0o700); err != nil {
			return usagef("vault serve: --overlay %q: %v; want a directory that is not there yet", f.overlay, errors.Unwrap(err))
		}
	}
	srv := nbd.NewServer(nbd.Config{Log: slog.New(slog.NewTextHandler(c.err, nil))})
	volumes, err := offer(srv, w, f.overlay)
	if err == nil {
		err = c.serveDisks(ctx, srv, w, network, address)
	}
	for _, v := range volumes {
		err = errors.Join(err, v.Close())
	}
	return err
}

// offer adds every disk. It gives the volumes to close, also with an error.
func offer(srv *nbd.Server, w *vault.View, overlay string) (volumes []*volume.Volume, err error) {
	for i := range w.Disks() {
		d := w.Disk(i)
		e := nbd.Export{Name: d.ID(), Description: fmt.Sprintf("understudy: %s at %d", w.Info().ID, w.Seq()), Backend: pastDisk{d}, ReadOnly: true, Blocking: true}
		if overlay != "" {
			v, err := volume.Open(volume.Config{Path: filepath.Join(overlay, d.ID()+".raw"), Base: pastBase{d}})
			if err != nil {
				return volumes, err
			}
			volumes = append(volumes, v)
			e.Backend, e.ReadOnly = v, false
		}
		if err := srv.Add(e); err != nil {
			return volumes, err
		}
	}
	return volumes, nil
}

func (c *console) serveDisks(ctx context.Context, srv *nbd.Server, w *vault.View, network, address string) error {
	l, err := nbd.Listen(network, address)
	if err != nil {
		return err
	}
	for i := range w.Disks() {
		d := w.Disk(i)
		c.say("disk %s (%d bytes) at position %d is served at %s", d.ID(), d.Size(), w.Seq(), nbd.URI(network, l.Addr().String(), d.ID()))
	}
	return srv.Serve(ctx, l)
}

// pastBase makes a disk of a view what volumes stand on.
type pastBase struct{ *vault.ViewDisk }

// ReadAt implements volume.Base.
func (b pastBase) ReadAt(ctx context.Context, p []byte, off int64) error {
	_, err := b.ViewDisk.ReadAt(ctx, p, off)
	return err
}

// pastDisk is a disk of a view as a backend that nothing can change.
type pastDisk struct{ *vault.ViewDisk }

func (d pastDisk) ReadAt(ctx context.Context, p []byte, off int64) error {
	return pastBase(d).ReadAt(ctx, p, off)
}

func (d pastDisk) WriteAt(context.Context, []byte, int64, bool) error   { return nbd.ErrReadOnly }
func (d pastDisk) Zero(context.Context, int64, int64, bool, bool) error { return nbd.ErrReadOnly }
func (d pastDisk) Trim(context.Context, int64, int64, bool) error       { return nbd.ErrReadOnly }
func (d pastDisk) Flush(context.Context) error                          { return nil }
func (d pastDisk) Extents(ctx context.Context, off, n int64, yield func(off, n int64, e nbd.Extent) bool) error {
	return d.ViewDisk.Extents(ctx, off, n, func(off, n int64, zero bool) bool {
		e := nbd.Extent(0)
		if zero {
			e = nbd.Hole | nbd.Zeros
		}
		return yield(off, n, e)
	})
}
