package main

import (
	"bytes"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/understudy-ha/understudy/cmd/understudy/internal/hanva"
	"github.com/understudy-ha/understudy/pki"
)

func importVerb(c *console) *cobra.Command {
	cmd := &cobra.Command{Use: "import", Short: "Turn another product's configuration into resources"}
	cmd.AddCommand(importHaNVAVerb(c))
	return cmd
}

func importHaNVAVerb(c *console) *cobra.Command {
	var o hanva.Options
	var out string
	var azure []string
	cmd := &cobra.Command{
		Use:   "ha-nva FILE",
		Short: "Turn the JSON file of the ha-nva daemon into resources",
		Long: `Turn the JSON file of the ha-nva daemon into a Provider, its Secret and an ApplianceGroup, as YAML. "-" is standard
input. Nothing is applied and nobody is asked.

The file holds no private addresses and no routes: the daemon asked Azure for them. Give them with --azure, from
  az network nic list -o json > nics.json
  az network route-table list -o json > tables.json
What is not given stands as a placeholder (addresses of 192.0.2.0/24), and the group is paused so that it does no harm. What
has no counterpart is told on standard error and stands as a comment in the output.`,
		Example: `  understudy import ha-nva config.json --azure nics.json --azure tables.json -o site.yaml
  understudy plan -f site.yaml`,
		Args: args("FILE"),
		RunE: func(_ *cobra.Command, given []string) error {
			for _, path := range azure {
				b, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				if err := o.Facts.Add(path, b); err != nil {
					return err
				}
			}
			doc, err := c.readAll(given[0])
			if err != nil {
				return err
			}
			r, err := hanva.Convert(doc, o)
			if err != nil {
				return fmt.Errorf("%s: %w", given[0], err)
			}
			return c.writeImport(given[0], out, r)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&out, "output", "o", "", "file to write, readable by its owner only (default: standard output)")
	flags.StringArrayVar(&azure, "azure", nil, "file with what Azure says of network interfaces or route tables; may be given more than once")
	flags.StringVar(&o.Group, "group", "nva", "name of the ApplianceGroup")
	flags.StringVar(&o.Provider, "provider", "azure", "name of the Provider, and of its Secret")
	return cmd
}

// readAll reads a file, or standard input for "-".
func (c *console) readAll(path string) ([]byte, error) {
	if path == "-" {
		return io.ReadAll(io.LimitReader(c.in, maxManifest))
	}
	return os.ReadFile(path)
}

func (c *console) writeImport(from, to string, r hanva.Result) error {
	for _, w := range r.Warnings {
		c.say("warning: %s", w)
	}
	if c.json {
		return c.printJSON(map[string]any{"items": r.Objects, "warnings": r.Warnings, "placeholders": r.Placeholders})
	}
	b, err := importYAML(from, r)
	if err != nil {
		return err
	}
	if to == "" {
		_, err = c.out.Write(b)
		return err
	}
	if err := pki.WriteFile(to, b, 0o600); err != nil {
		return err
	}
	c.say("Wrote %s. See what a move would do: understudy plan -f %s", to, to)
	return nil
}

// importYAML writes the resources with the warnings in front.
func importYAML(from string, r hanva.Result) ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Converted from %s by understudy import ha-nva.\n", from)
	for _, w := range r.Warnings {
		fmt.Fprintf(&b, "# - %s\n", w)
	}
	for _, o := range r.Objects {
		doc, err := yaml.Marshal(o)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "---\n%s", doc)
	}
	return b.Bytes(), nil
}
