package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/understudy-ha/understudy/nbd"
)

func nbdVerb(c *console) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "nbd",
		Short: "Serve disks over the Network Block Device protocol",
		Long:  `Serve disks over the Network Block Device protocol (NBD), to QEMU, nbdcopy, the kernel and whatever else speaks it.`,
	}
	cmd.AddCommand(nbdServeVerb(c))
	return cmd
}

// nbdServeFlags of one export.
type nbdServeFlags struct {
	listen, name string
	readOnly     bool
}

func nbdServeVerb(c *console) *cobra.Command {
	var f nbdServeFlags
	cmd := &cobra.Command{
		Use:   "serve FILE --listen unix:/PATH|tcp:HOST:PORT",
		Short: "Serve a raw disk image or a block device",
		Long: `Serve FILE, a raw disk image or a block device, until interrupted; then requests under way are answered and clients sent away.

Any number of clients may connect; what one has flushed is flushed for all. A unix socket is for this user alone. TCP is neither encrypted
nor asks who is there: keep it to networks where everybody may read and write the disk.`,
		Args: args("FILE"),
		RunE: func(cmd *cobra.Command, given []string) error { return c.runNBDServe(cmd.Context(), given[0], f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.listen, "listen", "", "unix:/PATH or tcp:HOST:PORT to serve on")
	flags.StringVar(&f.name, "name", "", "name of the export (default: FILE's last part; clients that name none get it too)")
	flags.BoolVar(&f.readOnly, "read-only", false, "refuse to change the disk")
	return cmd
}

func (c *console) runNBDServe(ctx context.Context, file string, f nbdServeFlags) error {
	if f.listen == "" {
		return usagef("nbd serve: --listen is missing: want unix:/PATH or tcp:HOST:PORT")
	}
	network, address, err := nbd.ParseAddress(f.listen)
	if err != nil {
		return usagef("nbd serve: --listen %q: want unix:/PATH or tcp:HOST:PORT", f.listen)
	}
	if f.name == "" {
		f.name = filepath.Base(file)
	}
	disk, err := nbd.OpenFile(file, nbd.FileOptions{ReadOnly: f.readOnly})
	if err != nil {
		return err
	}
	srv := nbd.NewServer(nbd.Config{Log: slog.New(slog.NewTextHandler(c.err, nil))})
	err = srv.Add(nbd.Export{Name: f.name, Description: fmt.Sprintf("understudy: %s", filepath.Base(file)), Backend: disk, ReadOnly: f.readOnly})
	if err != nil {
		return errors.Join(err, disk.Close())
	}
	l, err := nbd.Listen(network, address)
	if err != nil {
		return errors.Join(err, disk.Close())
	}
	how := ""
	if f.readOnly {
		how = ", read-only"
	}
	c.say("%s (%d bytes%s) is served at %s", file, disk.Size(), how, nbd.URI(network, l.Addr().String(), f.name))
	err = srv.Serve(ctx, l)
	return errors.Join(err, disk.Flush(context.WithoutCancel(ctx)), disk.Close())
}
