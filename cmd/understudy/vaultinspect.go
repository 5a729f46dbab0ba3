package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/understudy-ha/understudy/vault"
)

func vaultInspectVerb(c *console) *cobra.Command {
	var f vaultFlags
	var stream, object string
	cmd := &cobra.Command{
		Use:   "inspect --vault URL",
		Short: "Show what is in a vault: streams, recovery points, one object",
		Long: `Show what is in a vault: its streams; with --stream the recovery points and gaps of one; with --object what one segment or
layer's part holds, which needs --key. Contents are never shown.`,
		Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			v, s, err := f.open(cmd.Context(), object != "")
			if err != nil {
				return err
			}
			defer s.Close()
			switch {
			case object != "":
				info, err := v.InspectObject(cmd.Context(), object)
				if err != nil {
					return err
				}
				return c.printJSON(info)
			case stream != "":
				return c.inspectStream(cmd.Context(), v, stream)
			}
			return c.inspectVault(cmd.Context(), v)
		},
	}
	f.add(cmd, true)
	cmd.Flags().StringVar(&stream, "stream", "", "the stream to show")
	cmd.Flags().StringVar(&object, "object", "", "key of the object to show")
	return cmd
}

func (c *console) inspectVault(ctx context.Context, v *vault.Vault) error {
	ids, err := v.Streams(ctx)
	if err != nil {
		return err
	}
	infos := make([]vault.StreamInfo, 0, len(ids))
	t := newTable("STREAM", "MACHINE", "EPOCH", "POSITION", "POINTS", "LAYERS", "SEGMENTS", "BYTES", "EXTENDED")
	for _, id := range ids {
		info, err := v.Stream(ctx, id)
		if err != nil {
			return err
		}
		infos = append(infos, info)
		t.add(id, orDash(info.Machine.Name), fmt.Sprint(info.Epoch), fmt.Sprint(info.Seq), fmt.Sprint(len(info.Points)), fmt.Sprint(info.Layers),
			fmt.Sprint(info.Segments), fmt.Sprint(info.Bytes), age(time.Now(), info.Time))
	}
	if c.json {
		return c.printJSON(map[string]any{"vault": v.Root(), "streams": infos})
	}
	c.print("Vault %s, for %s, made %s.", v.Root().ID, v.Root().Recipient, clockTime(v.Root().Created))
	if len(ids) > 0 {
		t.write(c.out, "")
	}
	return nil
}

func (c *console) inspectStream(ctx context.Context, v *vault.Vault, stream string) error {
	info, err := v.Stream(ctx, stream)
	if err != nil {
		return err
	}
	if c.json {
		return c.printJSON(info)
	}
	c.print("Stream %s of %s at position %d, %s, %s, %d bytes.", info.ID, orDash(info.Machine.Name), info.Seq,
		plural(info.Layers, "layer", "layers"), plural(info.Segments, "segment", "segments"), info.Bytes)
	for _, d := range info.Disks {
		c.print("Disk %s: %d bytes.", d.ID, d.Size)
	}
	if info.InGap() {
		c.print("A gap is open from position %d: the newest records are not all there yet.", info.Gaps[len(info.Gaps)-1].From)
	}
	t := newTable("POINT", "AT", "POSITION", "CONSISTENCY", "TAG")
	for _, p := range info.Points {
		t.add(p.ID, p.At.Format(time.RFC3339), fmt.Sprint(p.Seq), string(p.Consistency), orDash(p.Tag))
	}
	if len(info.Points) > 0 {
		t.write(c.out, "")
	}
	return nil
}

func vaultVerifyVerb(c *console) *cobra.Command {
	var f vaultFlags
	var stream string
	cmd := &cobra.Command{
		Use:   "verify --vault URL --key FILE",
		Short: "Read everything that a vault refers to, and name what is damaged",
		Long: `Read everything that a vault's heads refer to and check it: hashes, keys, places, chains, records, indexes. Each damaged object
is named with the recovery points that need it; all others still read. Exit code 1 says that something is damaged.`,
		Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			v, s, err := f.open(cmd.Context(), true)
			if err != nil {
				return err
			}
			defer s.Close()
			return c.verifyVault(cmd.Context(), v, stream)
		},
	}
	f.add(cmd, true)
	cmd.Flags().StringVar(&stream, "stream", "", "the one stream to check (default: all)")
	return cmd
}

func (c *console) verifyVault(ctx context.Context, v *vault.Vault, stream string) error {
	ids, err := []string{stream}, error(nil)
	if stream == "" {
		if ids, err = v.Streams(ctx); err != nil {
			return err
		}
	}
	reports, problems := []vault.VerifyReport{}, 0
	for _, id := range ids {
		r, err := v.Verify(ctx, id, c.progress("verify "+id))
		if err != nil {
			return err
		}
		reports, problems = append(reports, r), problems+len(r.Problems)
		if c.json {
			continue
		}
		c.print("%s: %s, %d bytes, %s: %s.", id, plural(r.Objects, "object", "objects"), r.Bytes, plural(r.Points, "recovery point", "recovery points"),
			plural(len(r.Problems), "problem", "problems"))
		for _, p := range r.Problems {
			c.print("  %s: needed by %s", p.Detail, plural(len(p.Points), "position", "positions"))
		}
	}
	if c.json {
		if err := c.printJSON(map[string]any{"streams": reports, "problems": problems}); err != nil {
			return err
		}
	}
	if problems > 0 {
		return errors.New(plural(problems, "object is", "objects are") + " damaged")
	}
	return nil
}

// progress tells people how far a long call is, at most once a second; nil when nobody watches.
func (c *console) progress(what string) func(done, total int64) {
	if !c.errTTY || c.json {
		return nil
	}
	var last time.Time
	return func(done, total int64) {
		if done < total && time.Since(last) < time.Second {
			return
		}
		last = time.Now()
		end := "\r"
		if done >= total {
			end = "\n"
		}
		fmt.Fprintf(c.err, "%s: %s %%%s", what, strconv.FormatInt(done*100/max(total, 1), 10), end)
	}
}
