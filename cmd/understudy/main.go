// Command understudy is the whole product in one binary: the controller, the agent, and what people type.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// version is set by the build: -ldflags "-X main.version=…".
var version = "dev"

func main() { os.Exit(run()) }

// run is main with an exit code. An interrupt ends what is under way in order; a second one ends it at once.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	c := newConsole(os.Stdin, os.Stdout, os.Stderr)
	defer c.close()
	err := newRoot(c).ExecuteContext(ctx)
	if err != nil {
		c.complain(err)
	}
	return exitCode(err)
}
