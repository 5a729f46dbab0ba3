package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"testing"

	"github.com/understudy-ha/understudy/api"
)

func TestExitCodes(t *testing.T) {
	wrap := func(err error) error { return fmt.Errorf("site.yaml:3: %w", err) }
	for _, c := range []struct {
		name string
		err  error
		want int
	}{
		{"nil", nil, 0},
		{"any", errors.New("x"), 1},
		{"usage", wrap(usagef("x")), 2},
		{"invalid here", wrap(&api.Invalid{}), 2},
		{"invalid there", wrap(api.Errorf(api.CodeInvalid, "x")), 2},
		{"too large", api.Errorf(api.CodeTooLarge, "x"), 2},
		{"no such file", &fs.PathError{Op: "open", Path: "x", Err: fs.ErrNotExist}, 2},
		{"not found", wrap(api.Errorf(api.CodeNotFound, "x")), 3},
		{"exists", api.Errorf(api.CodeAlreadyExists, "x"), 4},
		{"conflict", api.Errorf(api.CodeConflict, "x"), 4},
		{"changed", api.Errorf(api.CodePreconditionFailed, "x"), 4},
		{"no match", api.Errorf(api.CodeNeedsMatch, "x"), 4},
		{"unauthenticated", api.Errorf(api.CodeUnauthenticated, "x"), 5},
		{"forbidden", api.Errorf(api.CodeForbidden, "x"), 5},
		{"read only", api.Errorf(api.CodeReadOnly, "x"), 5},
		{"another cluster", &url.Error{Err: &tls.CertificateVerificationError{Err: errors.New("x")}}, 5},
		{"unavailable", api.Errorf(api.CodeUnavailable, "x"), 6},
		{"unknown outcome", api.Errorf(api.CodeOutcomeUnknown, "x"), 6},
		{"nobody listens", &url.Error{Err: &net.OpError{Op: "dial", Err: errors.New("x")}}, 6},
		{"address in use", &net.OpError{Op: "listen", Err: errors.New("x")}, 1},
		{"internal", api.Errorf(api.CodeInternal, "x"), 1},
		{"job", &errJob{&api.Job{}}, 1},
		{"interrupted", wrap(context.Canceled), 130},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := exitCode(c.err); got != c.want {
				t.Errorf("exit code %d, want %d", got, c.want)
			}
		})
	}
}
