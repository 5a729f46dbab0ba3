package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
	"sigs.k8s.io/yaml"

	"github.com/understudy-ha/understudy/client"
)

// console is where a verb reads and writes, with what the global flags say.
type console struct {
	in       io.Reader
	out, err io.Writer

	// config, tenant and json are the global flags.
	config string
	tenant string
	json   bool

	// configPath is the configuration in use, for messages.
	configPath string
	// outTTY and errTTY tell whether people watch; color whether colours may be used on each.
	outTTY, errTTY bool
	colors         bool
	cl             *client.Client
}

func newConsole(in, out, err *os.File) *console {
	c := &console{in: in, out: out, err: err, configPath: "client.yaml", outTTY: isTerminal(out), errTTY: isTerminal(err)}
	c.colors = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	return c
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// close lets go of the connection.
func (c *console) close() {
	if c.cl != nil {
		c.cl.Close()
	}
}

// client connects to the controllers of the configuration. It is made once.
func (c *console) client() (*client.Client, error) {
	if c.cl != nil {
		return c.cl, nil
	}
	path, err := client.Find(c.config)
	if err != nil {
		return nil, &usageError{err.Error()}
	}
	c.configPath = path
	cfg, err := client.Load(path)
	if err != nil {
		return nil, fmt.Errorf("client configuration: %w", err)
	}
	if c.tenant != "" {
		cfg.Tenant = c.tenant
	}
	c.cl, err = client.New(cfg)
	return c.cl, err
}

// say prints a line for people on standard error, where it is in nobody's way.
func (c *console) say(format string, args ...any) { fmt.Fprintf(c.err, format+"\n", args...) }

// print writes a line of the result on standard output.
func (c *console) print(format string, args ...any) { fmt.Fprintf(c.out, format+"\n", args...) }

// printJSON writes v as indented JSON.
func (c *console) printJSON(v any) error {
	enc := json.NewEncoder(c.out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// printYAML writes v as one YAML document.
func (c *console) printYAML(v any) error {
	b, err := yaml.Marshal(v)
	if err != nil {
		return err
	}
	_, err = c.out.Write(b)
	return err
}

const (
	styleRed    = "31"
	styleGreen  = "32"
	styleYellow = "33"
	styleBold   = "1"
	styleFaint  = "2"
)

func paint(on bool, style, s string) string {
	if !on || s == "" {
		return s
	}
	return "\x1b[" + style + "m" + s + "\x1b[0m"
}

// red colours a word on standard error.
func (c *console) red(s string) string { return paint(c.colors && c.errTTY, styleRed, s) }

// shade colours a word of the result.
func (c *console) shade(style, s string) string { return paint(c.colors && c.outTTY, style, s) }
