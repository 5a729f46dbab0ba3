package main

import (
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/cmd/understudy/internal/reference"
	"github.com/understudy-ha/understudy/notify"
	"github.com/understudy-ha/understudy/server"
)

func docsVerb(c *console) *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "docs --out DIR",
		Short: "Write the reference of the command line, of the resources and of server.yaml",
		Args:  args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if out == "" {
				return usagef("docs: --out is missing: want the directory to write into")
			}
			pages, err := referencePages(cmd.Root())
			if err != nil {
				return err
			}
			if err := os.MkdirAll(out, 0o755); err != nil {
				return err
			}
			for name, text := range pages {
				if err := os.WriteFile(filepath.Join(out, name), []byte(text), 0o644); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "directory to write cli.md, resources.md and server.md into")
	return cmd
}

// referencePages makes the reference, by file name.
func referencePages(root *cobra.Command) (map[string]string, error) {
	resources, err := reference.Resources(api.Source)
	if err != nil {
		return nil, err
	}
	config, err := reference.Server(api.Source, notify.MailSource, server.ConfigSource)
	return map[string]string{"cli.md": reference.CLI(root), "resources.md": resources, "server.md": config}, err
}
