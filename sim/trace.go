package sim

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"strconv"
	"time"
)

// tailLines is how many lines a failure shows.
const tailLines = 50

// trace is what happened, as text: every line is hashed, the last ones are kept, and all go to out if that is set.
type trace struct {
	sum   hash.Hash
	last  [tailLines][]byte
	lines int
	out   io.Writer
}

func newTrace(out io.Writer) *trace { return &trace{sum: sha256.New(), out: out} }

// line writes the time in seconds, who, and the words.
func (t *trace) line(at time.Duration, who string, words ...string) {
	i := t.lines % tailLines
	b := t.last[i][:0]
	b = strconv.AppendInt(b, int64(at/time.Second), 10)
	b = append(b, '.')
	frac := strconv.Itoa(int(at%time.Second/time.Microsecond) + 1_000_000)
	b = append(b, frac[1:]...)
	b = append(b, ' ')
	b = append(b, who...)
	for _, w := range words {
		b = append(b, ' ')
		b = append(b, w...)
	}
	b = append(b, '\n')
	t.last[i] = b
	t.lines++
	t.sum.Write(b)
	if t.out != nil {
		_, _ = t.out.Write(b) // a trace that cannot be printed does not change the run
	}
}

// tail gives the last lines, oldest first.
func (t *trace) tail() []string {
	var out []string
	for i := max(0, t.lines-tailLines); i < t.lines; i++ {
		b := t.last[i%tailLines]
		out = append(out, string(b[:len(b)-1]))
	}
	return out
}

func (t *trace) hash() string { return hex.EncodeToString(t.sum.Sum(nil)[:16]) }
