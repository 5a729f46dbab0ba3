package reference

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// CLI writes the page about the command line.
func CLI(root *cobra.Command) string {
	var b strings.Builder
	b.WriteString("# Command line\n\nThis page is written by `understudy docs` from the commands themselves; `--help` says the same.\n\n")
	b.WriteString(block(root.Long))
	b.WriteString("\nEvery verb takes these flags:\n\n")
	b.WriteString(flagTable(root.PersistentFlags()))
	b.WriteString("\n")
	visit(root, func(cmd *cobra.Command) {
		if cmd != root {
			fmt.Fprintf(&b, "- [%s](#%s): %s\n", cmd.CommandPath(), anchor(cmd.CommandPath()), cmd.Short)
		}
	})
	visit(root, func(cmd *cobra.Command) {
		if cmd != root {
			section(&b, cmd)
		}
	})
	return b.String()
}

// visit calls see with a command and everything below it that is not hidden, by name.
func visit(cmd *cobra.Command, see func(*cobra.Command)) {
	if cmd.Hidden || cmd.Name() == "help" {
		return
	}
	see(cmd)
	for _, sub := range cmd.Commands() {
		visit(sub, see)
	}
}

func section(b *strings.Builder, cmd *cobra.Command) {
	fmt.Fprintf(b, "\n## %s\n\n", cmd.CommandPath())
	text := cmd.Long
	if text == "" {
		text = cmd.Short + "."
	}
	b.WriteString(block(text))
	if cmd.HasParent() {
		path, _, _ := strings.Cut(cmd.UseLine(), " [flags]")
		fmt.Fprintf(b, "\n```\n%s\n```\n", path)
	}
	if cmd.Example != "" {
		fmt.Fprintf(b, "\nExamples:\n\n```\n%s\n```\n", unindent(cmd.Example))
	}
	if t := flagTable(cmd.NonInheritedFlags()); t != "" {
		b.WriteString("\n" + t)
	}
}

// block keeps indented lines as they are.
func block(text string) string {
	var b strings.Builder
	code := false
	for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
		indented := strings.HasPrefix(line, "  ")
		if indented != code && (indented || line != "") {
			if indented {
				b.WriteString("\n")
			}
			b.WriteString("```\n")
			code = indented
		}
		b.WriteString(line + "\n")
	}
	if code {
		b.WriteString("```\n")
	}
	return b.String()
}

func unindent(text string) string {
	lines := strings.Split(strings.Trim(text, "\n"), "\n")
	for i := range lines {
		lines[i] = strings.TrimPrefix(lines[i], "  ")
	}
	return strings.Join(lines, "\n")
}

func flagTable(flags *pflag.FlagSet) string {
	var b strings.Builder
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" || f.Name == "version" {
			return
		}
		if b.Len() == 0 {
			b.WriteString("| flag | meaning |\n|---|---|\n")
		}
		name := "--" + f.Name
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		kind, usage := pflag.UnquoteUsage(f)
		if kind != "" {
			name += " " + kind
		}
		if d := f.DefValue; d != "" && d != "[]" && d != "false" && d != "0" && d != "0s" && !strings.Contains(usage, "default") {
			usage += " (default: " + d + ")"
		}
		fmt.Fprintf(&b, "| `%s` | %s |\n", name, strings.ReplaceAll(usage, "|", "\\|"))
	})
	return b.String()
}
