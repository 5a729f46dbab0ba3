package main

import (
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/server"
)

func clusterVerb(c *console) *cobra.Command {
	cmd := &cobra.Command{Use: "cluster", Short: "Prepare a cluster of controllers"}
	cmd.AddCommand(clusterInitVerb(c))
	return cmd
}

func clusterInitVerb(c *console) *cobra.Command {
	var dir string
	var controllers []string
	var store storeFlags
	cmd := &cobra.Command{
		Use:   "init --dir DIR --controller NAME=HOST …",
		Short: "Make a directory for each controller of a new cluster",
		Long: `Make a directory for each controller of a new cluster, with its keys, certificate and server.yaml, and client.yaml for
whoever operates it. Copy each directory to its host, over a safe way: it holds the cluster's keys.

Three controllers survive the loss of one; five that of two. Ports: 8443 for people, 7443 for agents and controllers, 2380
between the embedded stores.`,
		Example: `  understudy cluster init --dir site --controller c1=10.0.9.1 --controller c2=10.0.9.2 --controller c3=10.0.9.3`,
		Args:    args(),
		RunE: func(*cobra.Command, []string) error {
			if dir == "" {
				return usagef("cluster init: --dir is missing: want the directory to make, with room for every controller's")
			}
			o, err := initOptions(controllers, store)
			if err != nil {
				return err
			}
			if err := server.InitCluster(dir, o, time.Now()); err != nil {
				return err
			}
			return c.tellCluster(dir, o)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "directory to make")
	cmd.Flags().StringArrayVar(&controllers, "controller", nil, "a controller as NAME=HOST, HOST being its address or name without a port; once for each")
	store.add(cmd)
	return cmd
}

// storeFlags are what `cluster init` and `server` have in common.
type storeFlags struct {
	kind              string
	endpoints         []string
	leaseTTL, leasing time.Duration
}

func (f *storeFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.kind, "store", "", "where state lives: etcd (in the controllers, unless --store-endpoints are given) or zookeeper (default: etcd)")
	flags.StringSliceVar(&f.endpoints, "store-endpoints", nil, "servers of a store elsewhere: URLs for etcd, HOST:PORT for zookeeper; several with commas")
	flags.DurationVar(&f.leaseTTL, "lease-ttl", 0, "how long a leadership lasts without renewal: 300ms to 1h; after a leader's death the next one acts after about as long (default: 3s)")
	flags.DurationVar(&f.leasing, "lease-margin", 0, "how long before the end of its lease a leader stops acting: a twentieth to a third of --lease-ttl (default: 500ms, at most a sixth of --lease-ttl)")
}

// config puts the flags over what a configuration says already.
func (f *storeFlags) config(store *server.StoreConfig, lease *server.LeaseConfig) {
	if f.kind != "" {
		store.Type = f.kind
	}
	if len(f.endpoints) > 0 {
		store.Endpoints = f.endpoints
	}
	if f.leaseTTL != 0 {
		lease.TTL = api.Duration(f.leaseTTL)
	}
	if f.leasing != 0 {
		lease.Margin = api.Duration(f.leasing)
	}
}

func initOptions(controllers []string, store storeFlags) (o server.InitOptions, err error) {
	var bad api.Invalid
	seen := map[string]bool{}
	for _, text := range controllers {
		name, host, ok := strings.Cut(text, "=")
		switch {
		case !ok || !api.ValidName(name) || host == "":
			bad.Add("--controller", text, `NAME=HOST, like "c1=10.0.9.1"; NAME of a-z, 0-9, "-" and "."`)
		case strings.Contains(host, ":") && strings.Count(host, ":") < 2 || strings.ContainsAny(host, "/[]"):
			bad.Add("--controller", text, "HOST without a port or scheme: the ports are fixed")
		case seen[name]:
			bad.Add("--controller", text, "names that differ")
		}
		seen[name] = true
		o.Controllers = append(o.Controllers, server.Controller{Name: name, Host: host})
	}
	if len(controllers) == 0 {
		bad.Add("--controller", "", "at least one NAME=HOST; three survive the loss of one")
	}
	store.config(&o.Store, &o.Lease)
	return o, bad.Err()
}

func (c *console) tellCluster(dir string, o server.InitOptions) error {
	clientPath := filepath.Join(dir, server.FileClient)
	if c.json {
		dirs := map[string]string{}
		for _, ctl := range o.Controllers {
			dirs[ctl.Name] = filepath.Join(dir, ctl.Name)
		}
		return c.printJSON(map[string]any{"client": clientPath, "controllers": dirs})
	}
	c.print("Made a cluster of %s in %s.", plural(len(o.Controllers), "controller", "controllers"), dir)
	c.print("Copy each directory to its host and start it there:")
	for _, ctl := range o.Controllers {
		c.print("  on %-16s understudy server --dir %s", ctl.Host, filepath.Join(dir, ctl.Name))
	}
	c.print("Then, from here:\n  understudy --config %s status", clientPath)
	if len(o.Controllers) == 2 {
		c.say("Two controllers are no safer than one: with the embedded store either's loss stops both. Want one or three.")
	}
	return nil
}
