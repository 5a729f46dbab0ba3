package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// zooKeeper is an ensemble of three servers, one beside each controller.
type zooKeeper struct {
	l     *nvaLab
	procs []*process
}

const zooKeeperPort = "2181"

// endpoints as a controller names them.
func (z *zooKeeper) endpoints() string {
	var all []string
	for _, name := range controllers {
		all = append(all, addressOf(name, netManagement)+":"+zooKeeperPort)
	}
	return strings.Join(all, ",")
}

// start starts every server on its old data, if it has some, and waits until all serve.
func (z *zooKeeper) start(ctx context.Context) error {
	z.procs = nil
	for i, name := range controllers {
		dir := filepath.Join(z.l.run.scratch(), "zookeeper-"+name)
		if err := os.MkdirAll(filepath.Join(dir, "data"), 0o700); err != nil {
			return err
		}
		config := fmt.Sprintf("dataDir=%s/data\nclientPort=%s\nclientPortAddress=%s\ntickTime=500\ninitLimit=40\nsyncLimit=10\n"+
			"minSessionTimeout=1000\nmaxClientCnxns=0\nadmin.enableServer=false\n4lw.commands.whitelist=srvr\n",
			dir, zooKeeperPort, addressOf(name, netManagement))
		for j, other := range controllers {
			config += fmt.Sprintf("server.%d=%s:2888:3888\n", j+1, addressOf(other, netManagement))
		}
		if err := errors.Join(writeFile(filepath.Join(dir, "data", "myid"), fmt.Sprint(i+1)),
			writeFile(filepath.Join(dir, "zoo.cfg"), config)); err != nil {
			return err
		}
		p, err := z.l.start(name, program{name: name + "-zookeeper", path: "java", args: []string{"-Xmx256m",
			"-cp", "/etc/zookeeper/conf:/usr/share/java/zookeeper.jar",
			"org.apache.zookeeper.server.quorum.QuorumPeerMain", filepath.Join(dir, "zoo.cfg")}})
		if err != nil {
			return err
		}
		z.procs = append(z.procs, p)
	}
	return z.ready(ctx, 30*time.Second)
}

// ready waits until every server is leader or follower.
func (z *zooKeeper) ready(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for _, name := range controllers {
		for {
			// bash speaks TCP by itself; the machine needs no other tool.
			out, err := z.l.topo.spaces[name].output(ctx, "bash", "-c",
				fmt.Sprintf("exec 3<>/dev/tcp/%s/%s && echo srvr >&3 && cat <&3", addressOf(name, netManagement), zooKeeperPort))
			if err == nil && strings.Contains(out, "Mode: ") {
				break
			}
			if err := sleep(ctx, 100*time.Millisecond); err != nil {
				return fmt.Errorf("zookeeper on %s does not serve after %s, see its log", name, limit)
			}
		}
	}
	return nil
}

func (z *zooKeeper) kill() {
	for _, p := range z.procs {
		p.kill()
	}
}
