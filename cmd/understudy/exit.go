package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"strings"
	"syscall"

	"github.com/understudy-ha/understudy/api"
)

// The exit codes, which are stable; exitHelp tells people.
const (
	exitOK          = 0
	exitFailed      = 1
	exitInvalid     = 2
	exitNotFound    = 3
	exitConflict    = 4
	exitRefused     = 5
	exitUnreachable = 6
	exitInterrupted = 130
)

const exitHelp = `Exit codes:
  0    done
  1    failed: a job that did not succeed, a check that found something, an internal error
  2    wrong usage, or input that is refused; the message names the field, its value and what would be right
  3    not found, or another tenant's
  4    conflict: something else stands in the way, or it has changed since it was read
  5    refused: no credential, one that is not known, or a role that does not allow it
  6    unreachable: no controller answered, or the store did not
  130  interrupted
`

// usageError is a command line that makes no sense.
type usageError struct{ why string }

func (e *usageError) Error() string { return e.why }

func usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// exitCode gives the exit code of an error; nil is 0.
func exitCode(err error) int {
	var usage *usageError
	var bad *api.Invalid
	var refusal *api.Error
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &refusal):
		return refusalCode(refusal.Code)
	case errors.As(err, &usage), errors.As(err, &bad):
		return exitInvalid
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	case isWrongCertificate(err):
		return exitRefused
	case isUnreachable(err):
		return exitUnreachable
	case errors.Is(err, fs.ErrNotExist):
		return exitInvalid // a file that was named
	}
	return vaultCode(err)
}

func refusalCode(c api.Code) int {
	switch c {
	case api.CodeInvalid, api.CodeTooLarge:
		return exitInvalid
	case api.CodeNotFound:
		return exitNotFound
	case api.CodeAlreadyExists, api.CodeConflict, api.CodePreconditionFailed, api.CodeNeedsMatch:
		return exitConflict
	case api.CodeUnauthenticated, api.CodeForbidden, api.CodeReadOnly:
		return exitRefused
	case api.CodeUnavailable, api.CodeOutcomeUnknown:
		return exitUnreachable
	}
	return exitFailed
}

func isWrongCertificate(err error) bool {
	var wrong *tls.CertificateVerificationError
	return errors.As(err, &wrong)
}

func isUnreachable(err error) bool {
	var u *url.Error
	var n *net.OpError
	return errors.As(err, &u) || errors.As(err, &n) && n.Op == "dial"
}

// complaint is an error as --json shows it, on standard error.
type complaint struct {
	Code     api.Code         `json:"code,omitempty"`
	Message  string           `json:"message"`
	Fields   []api.FieldError `json:"fields,omitempty"`
	ExitCode int              `json:"exitCode"`
}

// complain tells people, or with --json a program, what went wrong.
func (c *console) complain(err error) {
	if c.json {
		fault := complaint{Message: err.Error(), ExitCode: exitCode(err), Fields: fieldsOf(err)}
		var refusal *api.Error
		if errors.As(err, &refusal) {
			fault.Code = refusal.Code
		}
		b, jsonErr := json.Marshal(fault)
		if jsonErr == nil {
			fmt.Fprintf(c.err, "%s\n", b)
			return
		}
	}
	fmt.Fprintln(c.err, c.red("understudy: ")+c.explain(err))
}

// fieldsOf gives the fields that were refused, if that is what err says.
func fieldsOf(err error) []api.FieldError {
	var bad *api.Invalid
	if errors.As(err, &bad) {
		return bad.Fields
	}
	var refusal *api.Error
	if errors.As(err, &refusal) {
		return refusal.Fields
	}
	return nil
}

// explain words an error for people, with what to do next where that is known.
func (c *console) explain(err error) string {
	var usage *usageError
	switch fields := fieldsOf(err); {
	case errors.As(err, &usage):
		return err.Error()
	case errors.Is(err, context.Canceled):
		return "interrupted"
	case len(fields) > 0:
		return fieldLines(err.Error(), fields)
	case isWrongCertificate(err):
		return err.Error() + "\nThe server's certificate is not of the CA in " + c.configPath + ": is that the configuration of this cluster?"
	case isUnreachable(err):
		return "no controller answered: " + err.Error() + "\nIs `understudy server` running there? The addresses come from " + c.configPath + "."
	}
	var refusal *api.Error
	switch {
	case errors.As(err, &refusal):
		return err.Error() + c.hint(refusal.Code)
	case errors.Is(err, syscall.EADDRINUSE):
		return err.Error() + "\nAnother program listens there, perhaps a controller: stop it, or choose other addresses (--listen, --cluster-listen)."
	}
	return err.Error()
}

func (c *console) hint(code api.Code) string {
	switch code {
	case api.CodeUnauthenticated:
		return "\nThe credential comes from " + c.configPath + "; an admin makes a new one with `understudy token create --user NAME --role ROLE`."
	case api.CodeUnavailable:
		return "\n`understudy status` shows which controllers are up."
	}
	return ""
}

// fieldLines puts each refused field on its own line, after whatever err says before them.
func fieldLines(whole string, fields []api.FieldError) string {
	all := make([]string, len(fields))
	for i, f := range fields {
		all[i] = f.String()
	}
	before := strings.TrimSuffix(strings.TrimSuffix(whole, strings.Join(all, "; ")), ": ")
	if before == "" {
		before = "refused"
	}
	return before + ":\n  " + strings.Join(all, "\n  ")
}
