package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/understudy-ha/understudy/api"
)

func getVerb(c *console) *cobra.Command {
	output := "table"
	cmd := &cobra.Command{
		Use:         "get KIND [NAME]",
		Annotations: everyTenant,
		Short:       "Show resources",
		Long: `Show the resources of a kind, or one of them. The values of secrets are never shown. KIND/NAME is understood too.

Kinds, with their other names:
  ` + kindList("\n  "),
		Example: `  understudy get groups
  understudy get group dmz -o yaml
  understudy get machines
  understudy get nodes -n '*'`,
		Args: args("KIND", "[NAME]"),
		RunE: func(cmd *cobra.Command, given []string) error {
			kind, name, err := kindAndName(given)
			if err != nil {
				return err
			}
			if output, err = c.outputForm(output); err != nil {
				return err
			}
			return c.get(cmd.Context(), kind, name, output)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", output, "table, yaml, json or name")
	return cmd
}

// outputForm settles -o and --json.
func (c *console) outputForm(output string) (string, error) {
	switch output {
	case "table":
		if c.json {
			return "json", nil
		}
	case "json":
		c.json = true
	case "yaml", "name":
		if c.json {
			return "", usagef("-o %s and --json: want one of them", output)
		}
	default:
		return "", usagef("-o %q: want table, yaml, json or name", output)
	}
	return output, nil
}

func (c *console) get(ctx context.Context, kind api.KindInfo, name, output string) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	if name != "" {
		o, err := cl.Get(ctx, kind.Kind, "", name)
		if err != nil {
			return err
		}
		if output == "json" {
			return c.printJSON(o)
		}
		return c.printObjects(kind, []api.Object{o}, output)
	}
	objs, err := cl.List(ctx, kind.Kind, "")
	if err != nil {
		return err
	}
	if len(objs) == 0 && output == "table" {
		c.say("There are no %s%s.", kind.Plural, c.inTenant())
		return nil
	}
	return c.printObjects(kind, objs, output)
}

func (c *console) inTenant() string {
	switch c.tenant {
	case "":
		return ""
	case api.AllTenants:
		return " in any tenant"
	}
	return " in tenant " + c.tenant
}

func (c *console) printObjects(kind api.KindInfo, objs []api.Object, output string) error {
	switch output {
	case "json":
		return c.printJSON(map[string]any{"items": objs})
	case "yaml":
		for i, o := range objs {
			if i > 0 {
				fmt.Fprintln(c.out, "---")
			}
			if err := c.printYAML(o); err != nil {
				return err
			}
		}
	case "name":
		for _, o := range objs {
			c.print("%s/%s", kind.Plural, o.Head().Metadata.Name)
		}
	default:
		c.objectTable(kind.Kind, objs).write(c.out, "")
	}
	return nil
}
