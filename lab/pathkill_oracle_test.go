package lab

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/journal"
)

func TestPathOracle(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	r, err := Run(ctx, "path-oracle", testOptions(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Print(t.Output()); err != nil {
		t.Fatal(err)
	}
	if !r.Passed {
		t.Fail()
	}
}

// Nothing is under way when the witness flushes: else its log and the capture's may differ and both be right.
func TestTheWitnessWaitsBeforeItFlushes(t *testing.T) {
	commands := witnessCommands(rand.New(rand.NewPCG(1, 1)), 500, oracleDepth)
	under := 0
	for i, c := range commands {
		switch {
		case c == "aio_flush":
			under = 0
		case c == "flush" && under > 0:
			t.Errorf("command %d: flush with %d requests under way", i, under)
		case strings.HasPrefix(c, "aio_write"):
			if under++; under > oracleDepth {
				t.Errorf("command %d: %d requests under way", i, under)
			}
		case c != "flush":
			t.Errorf("command %d: %q cannot overlap", i, c)
		}
	}
	if under > 0 {
		t.Errorf("%d requests under way in the end", under)
	}
}

func TestOneRecordIn40IsLeftOut(t *testing.T) {
	var recs []journal.Record
	for i := range 120 {
		recs = append(recs, journal.Record{Seq: uint64(i + 1), Kind: journal.Write}, journal.Record{Kind: journal.Flush})
	}
	if n := len(oneIn40LeftOut(recs)); n != len(recs)-3 {
		t.Errorf("%d of %d are left", n, len(recs))
	}
}
