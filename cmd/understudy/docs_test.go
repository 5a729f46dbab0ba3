package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/understudy-ha/understudy/api"
)

func newTestRoot() *cobra.Command { return newRoot(newConsole(os.Stdin, os.Stdout, os.Stderr)) }

// TestReferenceIsFresh fails when a verb, a flag or a comment of package api has changed since `make docs`.
func TestReferenceIsFresh(t *testing.T) {
	pages, err := referencePages(newTestRoot())
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range pages {
		got, err := os.ReadFile(filepath.Join("..", "..", "docs", "reference", name))
		if err != nil || string(got) != want {
			t.Errorf("docs/reference/%s is stale (%v): run make docs", name, err)
		}
	}
}

// TestServerReferenceCoversNotifications: what server.yaml says is told nowhere else.
func TestServerReferenceCoversNotifications(t *testing.T) {
	pages, err := referencePages(newTestRoot())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| `notify` | [NotifyConfig](#notifyconfig) |", "| `mail` | list of [Mail](#mail) |", "| `passwordFile` | string |",
		"| `minSeverity` | string |", "One of `Info`", "| `ttl` | duration | TTL: 300ms to 1h."} {
		if !strings.Contains(pages["server.md"], want) {
			t.Errorf("server.md lacks %q", want)
		}
	}
}

func TestReferenceIsReproducible(t *testing.T) {
	t.Setenv("UNDERSTUDY_DIR", "/somewhere/else")
	first, err := referencePages(newTestRoot())
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("UNDERSTUDY_DIR", "")
	second, err := referencePages(newTestRoot())
	if err != nil || first["cli.md"] != second["cli.md"] || first["resources.md"] != second["resources.md"] {
		t.Errorf("two runs differ (%v)", err)
	}
}

// TestReferenceCoversEveryField looks for some of each kind, among them words of enums and comments that two fields share.
func TestReferenceCoversEveryField(t *testing.T) {
	pages, err := referencePages(newTestRoot())
	if err != nil {
		t.Fatal(err)
	}
	text := pages["resources.md"]
	for _, k := range api.Kinds() {
		if !strings.Contains(text, "\n## "+string(k.Kind)+"\n") {
			t.Errorf("kind %s has no section", k.Kind)
		}
	}
	for _, want := range []string{
		"| `interval` | duration | Interval between probes: 5ms to 1h.",
		"| `members` | list of [Member](#member) | Members, 2 to 8, in order of preference",
		"`fast` (probes every 15 ms",
		"| `nic` | [NICStep](#nicstep) |",
		"| `data` | map to string |",
		"| `updated` | time | See `created`. |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing", want)
		}
	}
}

// TestEveryVerbExplainsItself: every verb that people see has a one-line help without a full stop, and says what is wrong
// with too many arguments.
func TestEveryVerbExplainsItself(t *testing.T) {
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: short help %q", cmd.CommandPath(), cmd.Short)
		}
		if cmd.Args == nil && cmd.Name() != "help" {
			t.Errorf("%s takes any arguments", cmd.CommandPath())
		}
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
	}
	visit(newTestRoot())
}
