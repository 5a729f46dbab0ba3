package site

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/api"
)

// TestAForwardThatTheGuestDoesNotAnswerIsNoAnswer: the hypervisor's own accept does not count.
func TestAForwardThatTheGuestDoesNotAnswerIsNoAnswer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	q := api.ServiceCheck{Address: l.Addr().String()}
	port := uint16(l.Addr().(*net.TCPAddr).Port)
	asked := 0
	late := func(_ context.Context, p uint16) (bool, error) {
		if p != port {
			t.Errorf("port %d", p)
		}
		asked++
		return asked > 2, nil
	}
	if err := answers(t.Context(), q, late); err != nil || asked != 3 {
		t.Errorf("%v after %d questions; want an answer to the third", err, asked)
	}
	began := time.Now()
	never := func(context.Context, uint16) (bool, error) { return false, nil }
	if err := answers(t.Context(), q, never); err == nil || !strings.Contains(err.Error(), "the guest does not") {
		t.Errorf("a guest that never answers: %v", err)
	}
	if d := time.Since(began); d > checkTimeout+5*time.Second {
		t.Errorf("took %v", d)
	}
}
