package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/understudy-ha/understudy/pki"
	"github.com/understudy-ha/understudy/server"
)

func serverBackupVerb(c *console) *cobra.Command {
	return &cobra.Command{
		Use:   "backup FILE",
		Short: "Write everything that the controllers keep to a file",
		Long: `Write everything that the controllers keep to a file, which only its owner may read: resources, assignments, jobs,
events and tokens. Secrets in it stay sealed: it opens nothing without the file "key" in a controller's directory. Keep that
elsewhere. It is the same for every store.`,
		Args: args("FILE"),
		RunE: func(cmd *cobra.Command, given []string) error { return c.backup(cmd.Context(), given[0]) },
	}
}

func (c *console) backup(ctx context.Context, path string) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	var raw []byte
	if err := cl.Call(ctx, http.MethodGet, "/v1/backup", nil, "", nil, &raw); err != nil {
		return err
	}
	header, entries, err := server.ReadBackup(bytes.NewReader(raw))
	if err != nil {
		return fmt.Errorf("what the controller sent is not whole: %w", err)
	}
	if err := pki.WriteFile(path, raw, 0o600); err != nil {
		return err
	}
	if c.json {
		return c.printJSON(map[string]any{"file": path, "clusterID": header.ClusterID, "at": header.At, "keys": len(entries), "bytes": len(raw)})
	}
	c.print("Wrote %s: %s of cluster %s, as of %s.", path, plural(len(entries), "key", "keys"), header.ClusterID, clockTime(header.At))
	return nil
}

func serverRestoreVerb(c *console) *cobra.Command {
	var f serverFlags
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Fill an empty store from a backup, as a new life of the cluster",
		Long: `Fill an empty store from a backup, as a new life of the cluster: agents refuse whoever still acts for the old one. The
store is the one that server.yaml and the flags name, so a restore may also change from etcd to ZooKeeper or back. Its
directory must be the cluster's own: a backup is of no use without its keys.

No controller may run. Controllers that keep the state in themselves, three of them, all run this at the same time. It moves
nothing: the first leader goes on from the assignments of the backup.`,
		Example: `  understudy server restore monday.backup --dir /var/lib/understudy`,
		Args:    args("FILE"),
		RunE: func(cmd *cobra.Command, given []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			return c.restore(ctx, given[0], f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.dir, "dir", "", "directory of this controller "+dirHelp)
	f.store.add(cmd)
	flags.DurationVar(&timeout, "timeout", 2*time.Minute, "how long to wait for the store")
	return cmd
}

func (c *console) restore(ctx context.Context, path string, f serverFlags) error {
	dir := dirOr(f.dir)
	cfg, err := f.config(dir)
	if err != nil {
		return err
	}
	if err := startLog(c.err, cfg.LogLevel); err != nil {
		return err
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	id, err := server.Restore(ctx, dir, cfg, file)
	if err != nil {
		return fmt.Errorf("restore %s: %w", path, err)
	}
	if c.json {
		return c.printJSON(map[string]string{"clusterID": id, "dir": dir})
	}
	c.print("Restored %s as cluster %s. Start the controllers: understudy server --dir %s", path, id, dir)
	return nil
}
