package nbd

import (
	"context"
	"strings"
	"testing"
)

// TestRequestsTakeNoMemory: once its buffers have grown, a connection's reads, writes and flushes allocate nothing.
func TestRequestsTakeNoMemory(t *testing.T) {
	one := string(request{cmd: cmdWrite, n: 4096}.append(nil)) + strings.Repeat("x", 4096) + string(request{cmd: cmdRead, n: 4096}.append(nil)) +
		string(request{cmd: cmdFlush}.append(nil)) + string(request{cmd: cmdWrite, n: 1 << 20}.append(nil)) + strings.Repeat("x", 1<<20)
	in := strings.NewReader("")
	conn := script{in}
	s := newSession(context.Background(), conn, newInbox(conn), answerer{disk: newMemory(2 << 20), size: 2 << 20, structured: true})
	if n := testing.AllocsPerRun(20, func() {
		in.Reset(one)
		if err := s.run(); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("4 requests took %v allocations", n)
	}
}
