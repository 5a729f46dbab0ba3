package main

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/understudy-ha/understudy/api"
)

const about = `Understudy keeps a site reachable and recoverable: it watches an active and a standby appliance and moves public
addresses and routes to the standby when the active one fails, or when you ask; and it keeps every write of protected machines
at another site, boots them there from any point, in a drill or for real, and brings them home.

Start with:
  understudy server                     run a controller here; it says how to go on
  understudy apply -f site.yaml         say what there is
  understudy get groups                 see who is active
  understudy plan GROUP                 see what a move would do, and how long it takes
  understudy failover GROUP --wait      move
  understudy test-failover MACHINE      rehearse; then test-failover-cleanup

` + exitHelp

// group is a part of the help.
type group struct {
	id, title string
	verbs     []*cobra.Command
}

// groups lists every verb, in the order of the help.
func groups(c *console) []group {
	return []group{
		{"run", "Run it:", []*cobra.Command{serverVerb(c), agentVerb(c), clusterVerb(c), statusVerb(c), engineVerb(c)}},
		{"say", "Say what there is, and see it:", []*cobra.Command{applyVerb(c), getVerb(c), describeVerb(c), watchVerb(c), deleteVerb(c), importVerb(c)}},
		{"move", "Move:", []*cobra.Command{planVerb(c), failoverVerb(c), pauseVerb(c), resumeVerb(c), jobsVerb(c)}},
		{"recover", "Rehearse, recover and bring home machines:", append([]*cobra.Command{pointsVerb(c)}, operationCommands(c)...)},
		{"look", "Look after it:", []*cobra.Command{doctorVerb(c), eventsVerb(c), historyVerb(c), tokenVerb(c), auditVerb(c)}},
		{"disks", "Disks:", []*cobra.Command{nbdVerb(c), vaultVerb(c)}},
		{"rehearse", "Try it out:", []*cobra.Command{labVerb(c), armsimVerb(c)}},
		{"self", "About this program:", []*cobra.Command{docsVerb(c), versionVerb(c)}},
	}
}

// newRoot makes the command line.
func newRoot(c *console) *cobra.Command {
	root := &cobra.Command{
		Use:           "understudy",
		Short:         "Keep a site reachable and recoverable",
		Long:          about,
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       version,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },

		PersistentPreRunE: c.checkTenant,
	}
	root.SetIn(c.in)
	root.SetOut(c.out)
	root.SetErr(c.err)
	root.SetVersionTemplate("understudy {{.Version}}\n")
	root.CompletionOptions.DisableDefaultCmd = true
	flags := root.PersistentFlags()
	flags.StringVar(&c.config, "config", "", "client.yaml: where the controllers are and who asks (default: $UNDERSTUDY_CONFIG, or client.yaml in $UNDERSTUDY_DIR, ~/.understudy or /var/lib/understudy)")
	flags.StringVarP(&c.tenant, "tenant", "n", "", `tenant that is meant; "*" in lists: every tenant (default: the credential's own)`)
	flags.BoolVar(&c.json, "json", false, "answer as JSON; refusals too, on standard error")
	cobra.EnableCommandSorting = false
	for _, g := range groups(c) {
		root.AddGroup(&cobra.Group{ID: g.id, Title: g.title})
		for _, v := range g.verbs {
			v.GroupID = g.id
			root.AddCommand(v)
		}
	}
	root.SetHelpCommandGroupID("self")
	finish(root)
	return root
}

// everyTenant marks verbs for which the tenant "*" makes sense: they list, or they make something that is of every tenant.
var everyTenant = map[string]string{"tenants": "all"}

// checkTenant refuses the tenant "*" where one resource is named.
func (c *console) checkTenant(cmd *cobra.Command, given []string) error {
	if c.tenant != api.AllTenants || cmd.Annotations["tenants"] != "" && len(given) <= namesAfter[cmd.Name()] {
		return nil
	}
	return usagef(`%s-n "*" is for lists: want the one tenant that is meant`, verbPrefix(cmd))
}

// namesAfter is how many arguments of a verb come before one that names a resource, if any.
var namesAfter = map[string]int{"get": 1, "watch": 2}

// finish makes every wrong command line a usageError, and a verb that has verbs of its own say which.
func finish(cmd *cobra.Command) {
	cmd.SuggestionsMinimumDistance = 2
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%v; see `%s --help`", err, cmd.CommandPath())
	})
	if cmd.HasSubCommands() {
		cmd.Args = wantVerb
		if cmd.RunE == nil {
			cmd.RunE = func(cmd *cobra.Command, _ []string) error {
				return usagef("%swant one of %s", verbPrefix(cmd), strings.Join(verbNames(cmd), ", "))
			}
		}
	}
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, given []string) error { return asUsage(check(cmd, given)) }
	}
	for _, sub := range cmd.Commands() {
		finish(sub)
	}
}

// asUsage makes an error about arguments a usageError.
func asUsage(err error) error {
	var usage *usageError
	if err == nil || errors.As(err, &usage) {
		return err
	}
	return &usageError{err.Error()}
}

// verbPrefix begins a message about a verb with its name: "jobs show: "; with nothing for the program itself.
func verbPrefix(cmd *cobra.Command) string {
	_, verb, _ := strings.Cut(cmd.CommandPath(), " ")
	if verb == "" {
		return ""
	}
	return verb + ": "
}

func verbNames(cmd *cobra.Command) []string {
	var names []string
	for _, sub := range cmd.Commands() {
		if !sub.Hidden {
			names = append(names, sub.Name())
		}
	}
	return names
}

func wantVerb(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return usagef("%s%q is no verb: did you mean %s?", verbPrefix(cmd), args[0], strings.Join(near, " or "))
	}
	return usagef("%s%q is no verb: want one of %s", verbPrefix(cmd), args[0], strings.Join(verbNames(cmd), ", "))
}

func usageLine(cmd *cobra.Command) string { return strings.TrimSuffix(cmd.UseLine(), " [flags]") }

// args wants exactly the arguments that names lists; one in brackets may be left out.
func args(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, given []string) error {
		need := 0
		for _, n := range names {
			if !strings.HasPrefix(n, "[") {
				need++
			}
		}
		switch {
		case len(given) < need:
			return usagef("%s%s is missing; usage: %s", verbPrefix(cmd), names[len(given)], usageLine(cmd))
		case len(given) > len(names):
			return usagef("%s%q is too much; usage: %s", verbPrefix(cmd), given[len(names)], usageLine(cmd))
		}
		return nil
	}
}
