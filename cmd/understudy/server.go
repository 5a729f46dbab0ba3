package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/understudy-ha/understudy/server"
)

// serverFlags go over server.yaml.
type serverFlags struct {
	dir, name, listen, cluster, hooksDir, logLevel string
	webhooks, execs                                []string
	store                                          storeFlags
}

func serverVerb(c *console) *cobra.Command {
	var f serverFlags
	cmd := &cobra.Command{
		Use:   "server",
		Short: "Run a controller",
		Long: `Run a controller until it is interrupted.

Without flags it is a usable cluster of one: it makes its directory on the first start, keeps its state there, and prints how
to go on. Flags go over what server.yaml in the directory says; "understudy cluster init" makes directories for more
than one controller.`,
		Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error { return c.serve(cmd.Context(), f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.dir, "dir", "", "directory of this controller "+dirHelp)
	flags.StringVar(&f.name, "name", "", "name of this controller (default: c1)")
	flags.StringVar(&f.listen, "listen", "", "HOST:PORT of the API, for people and tools (default: 127.0.0.1:8443)")
	flags.StringVar(&f.cluster, "cluster-listen", "", "HOST:PORT for agents and other controllers (default: 127.0.0.1:7443)")
	f.store.add(cmd)
	flags.StringVar(&f.hooksDir, "hooks-dir", "", "directory of the programs that hooks and notifications may run (default: hooks in --dir)")
	flags.StringArrayVar(&f.webhooks, "notify-webhook", nil, "URL that gets each event by POST; may be given more than once")
	flags.StringArrayVar(&f.execs, "notify-exec", nil, "program in --hooks-dir that gets each event on standard input; may be given more than once")
	flags.StringVar(&f.logLevel, "log-level", "", "debug, info, warn or error (default: info)")
	cmd.AddCommand(serverBackupVerb(c), serverRestoreVerb(c), serverRecoverVerb(c))
	return cmd
}

// config reads server.yaml and puts the flags over it.
func (f *serverFlags) config(dir string) (server.Config, error) {
	cfg, err := server.LoadConfig(dir)
	if err != nil {
		return cfg, err
	}
	for _, o := range []struct {
		field *string
		flag  string
	}{{&cfg.Name, f.name}, {&cfg.Listen, f.listen}, {&cfg.ClusterListen, f.cluster}, {&cfg.HooksDir, f.hooksDir}, {&cfg.LogLevel, f.logLevel}} {
		if o.flag != "" {
			*o.field = o.flag
		}
	}
	f.store.config(&cfg.Store, &cfg.Lease)
	if len(f.webhooks) > 0 {
		cfg.Notify.Webhooks = f.webhooks
	}
	if len(f.execs) > 0 {
		cfg.Notify.Exec = f.execs
	}
	cfg.Default(dir)
	return cfg, cfg.Validate()
}

// sayWaiting is how long a controller waits for its store in silence.
const sayWaiting = 5 * time.Second

func (c *console) serve(ctx context.Context, f serverFlags) error {
	dir := dirOr(f.dir)
	cfg, err := f.config(dir)
	if err != nil {
		return err
	}
	if err := startLog(c.err, cfg.LogLevel); err != nil {
		return err
	}
	made, err := server.EnsureDir(dir, cfg, time.Now())
	if errors.Is(err, fs.ErrPermission) {
		return usagef("%v: want a directory that you may write: --dir DIR, or run as root", err)
	}
	if err != nil {
		return err
	}
	slow := time.AfterFunc(sayWaiting, func() {
		c.say("Waiting for the store (%s): it answers when most of its members run. Controllers: %s.", cfg.Store.Type, strings.Join(cfg.ControllerNames(), ", "))
	})
	s, err := server.New(ctx, server.Options{Dir: dir, Config: cfg, Version: version, FailpointFile: os.Getenv(server.FailpointEnv)})
	slow.Stop()
	if err != nil {
		return err
	}
	c.tellServer(dir, cfg, s, made)
	err = s.Run(ctx)
	return errors.Join(err, s.Close())
}

// tellServer says on standard error how to go on.
func (c *console) tellServer(dir string, cfg server.Config, s *server.Server, made bool) {
	c.say("Controller %s of cluster %s is up: API https://%s, agents %s, state in %s.", cfg.Name, s.ClusterID(), s.Addr(), s.ClusterAddr(), dir)
	if !made {
		return
	}
	config := ""
	if path := filepath.Join(dir, server.FileClient); !foundByDefault(path) {
		config = " --config " + path
	}
	c.say(`
This is a new cluster of one. Go on in another terminal:
  understudy%[1]s status
  understudy%[1]s token create --node NAME     a token for the agent of a router or appliance
  understudy agent --controllers %[2]s --token TOKEN     on that host
  understudy%[1]s apply -f site.yaml     the provider and the group; fields are in docs/reference/resources.md
  understudy%[1]s get groups
Its keys are in %[3]s: keep a copy.`, config, s.ClusterAddr(), dir)
	if strings.HasPrefix(s.ClusterAddr(), "127.") {
		c.say("Agents on other hosts cannot reach %s: start with --listen and --cluster-listen on an address they can.", s.ClusterAddr())
	}
	c.say("")
}

// foundByDefault tells whether people need no --config for this file.
func foundByDefault(path string) bool {
	return filepath.Dir(path) == filepath.Clean(defaultDir()) && os.Getenv("UNDERSTUDY_CONFIG") == ""
}
