package main

import (
	"context"
	"errors"
	"os"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/vault"
)

// vaultExportFlags say what of a vault goes where.
type vaultExportFlags struct {
	vaultFlags
	stream, disk, point, format, out string
}

func vaultExportVerb(c *console) *cobra.Command {
	var f vaultExportFlags
	cmd := &cobra.Command{
		Use:   "export --vault URL --key FILE --stream ID --out FILE",
		Short: "Write one disk of a machine, as it was at a recovery point, to a file",
		Long: `Write one disk of a machine, as it was at a recovery point, to a file: a raw image with holes where it reads as zeroes. It needs
neither a controller nor an agent, only the vault and the key.

With --format log the file is instead the disk's history up to there, in the format of the kernel's dm-log-writes, which replay-log
plays to any of its marks; each recovery point is one. That works while the segments of the whole history are kept.`,
		Example: `  understudy vault export --vault file:///srv/vault --key site.key --stream 7c1f-1 --point latest --out root.raw`,
		Args:    args(),
		RunE:    func(cmd *cobra.Command, _ []string) error { return c.exportVault(cmd.Context(), &f) },
	}
	f.add(cmd, true)
	flags := cmd.Flags()
	flags.StringVar(&f.stream, "stream", "", "the stream, as vault inspect lists it")
	flags.StringVar(&f.disk, "disk", "", "id of the disk (default: the only one)")
	flags.StringVar(&f.point, "point", "latest", "id of the recovery point, its position as @NUMBER, or latest")
	flags.StringVar(&f.format, "format", "raw", "raw or log")
	flags.StringVar(&f.out, "out", "", "file to write; it does not exist yet")
	return cmd
}

func (f *vaultExportFlags) check() error {
	switch {
	case f.stream == "":
		return usagef("vault export: --stream is missing: want one of those that vault inspect lists")
	case f.out == "":
		return usagef("vault export: --out is missing: want the file to write")
	case f.format != "raw" && f.format != "log":
		return usagef("vault export: --format %q: want raw or log", f.format)
	}
	if _, err := os.Lstat(f.out); err == nil {
		return usagef("vault export: --out %q: it exists; want a new file", f.out)
	}
	return nil
}

func (c *console) exportVault(ctx context.Context, f *vaultExportFlags) error {
	if err := f.check(); err != nil {
		return err
	}
	v, s, err := f.open(ctx, true)
	if err != nil {
		return err
	}
	defer s.Close()
	info, seq, err := past(ctx, v, "vault export", f.stream, f.point)
	if err != nil {
		return err
	}
	disk, err := f.diskIndex(&info)
	if err != nil {
		return err
	}
	out, err := os.OpenFile(f.out, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	err = c.exportTo(ctx, v, f, disk, seq, out)
	if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
		return errors.Join(err, os.Remove(f.out))
	}
	if c.json {
		return c.printJSON(map[string]any{"file": f.out, "stream": f.stream, "disk": info.Disks[disk].ID, "position": seq, "format": f.format})
	}
	c.print("Wrote %s: disk %s of %s at position %d.", f.out, info.Disks[disk].ID, f.stream, seq)
	return nil
}

func (c *console) exportTo(ctx context.Context, v *vault.Vault, f *vaultExportFlags, disk int, seq uint64, out *os.File) error {
	if f.format == "log" {
		_, err := v.ExportLog(ctx, f.stream, disk, seq, out)
		return err
	}
	w, err := v.View(ctx, f.stream, seq)
	if err != nil {
		return err
	}
	return errors.Join(w.ExportRaw(ctx, disk, out, c.progress("export")), w.Close())
}

// past finds a position of a stream that can be read from the vault alone.
func past(ctx context.Context, v *vault.Vault, verb, stream, point string) (info vault.StreamInfo, seq uint64, err error) {
	if info, err = v.Stream(ctx, stream); err != nil {
		return info, 0, err
	}
	if err := whole(ctx, v, info); err != nil {
		return info, 0, err
	}
	seq, err = position(verb, point, &info)
	return info, seq, err
}

// whole refuses a stream of which the vault holds only what differs from a disk that is elsewhere: what is not there would read as zeroes.
func whole(ctx context.Context, v *vault.Vault, info vault.StreamInfo) (err error) {
	id := info.ID
	for info.Base.Kind == "stream" {
		if info, err = v.Stream(ctx, info.Base.Stream); err != nil {
			return err
		}
	}
	if info.Base.Kind == "disk" {
		return api.Errorf(api.CodeConflict, "stream %s holds only what differs from the disks of the machine's own site: want a stream of the other direction, in the recovery site's vault", id)
	}
	return nil
}

// position finds the recovery point that is meant.
func position(verb, point string, info *vault.StreamInfo) (uint64, error) {
	if point == "latest" && len(info.Points) > 0 {
		return info.Points[len(info.Points)-1].Seq, nil
	}
	if len(point) > 1 && point[0] == '@' {
		if seq, err := strconv.ParseUint(point[1:], 10, 64); err == nil {
			return seq, nil
		}
	}
	i := slices.IndexFunc(info.Points, func(p vault.PointInfo) bool { return p.ID == point })
	if i < 0 {
		return 0, usagef("%s: --point %q: stream %s has %s, none of which is it", verb, point, info.ID, plural(len(info.Points), "recovery point", "recovery points"))
	}
	return info.Points[i].Seq, nil
}

func (f *vaultExportFlags) diskIndex(info *vault.StreamInfo) (int, error) {
	if f.disk == "" && len(info.Disks) == 1 {
		return 0, nil
	}
	i := slices.IndexFunc(info.Disks, func(d vault.Disk) bool { return d.ID == f.disk })
	if i < 0 {
		ids := []string{}
		for _, d := range info.Disks {
			ids = append(ids, d.ID)
		}
		return 0, usagef("vault export: --disk %q: stream %s has %q", f.disk, info.ID, ids)
	}
	return i, nil
}
