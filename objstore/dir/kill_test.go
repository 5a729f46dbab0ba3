package dir_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/understudy-ha/understudy/objstore"
	"github.com/understudy-ha/understudy/objstore/dir"
	"github.com/understudy-ha/understudy/objstore/objtest"
)

const writerEnv = "UNDERSTUDY_TEST_DIR_WRITER"

func TestMain(m *testing.M) {
	if path := os.Getenv(writerEnv); path != "" {
		fmt.Println("stopped:", writeForEver(path))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// object gives the n-th state of "head": its number, and bytes that fit it.
func object(n uint64) []byte {
	return append(binary.BigEndian.AppendUint64(nil, n), objtest.Bytes(n, int(100_000+n%7*50_000))...)
}

// writeForEver counts up in "head" by read and IfMatch, and writes a segment for each, saying each number that was acknowledged.
func writeForEver(path string) error {
	ctx := context.Background()
	s, err := dir.Open(ctx, path)
	if err != nil {
		return err
	}
	data, tag, err := s.Get(ctx, "head")
	if err != nil {
		return err
	}
	for n := binary.BigEndian.Uint64(data) + 1; ; n++ {
		if _, err := objstore.PutOnce(ctx, s, fmt.Sprintf("segments/%d/%d", n%10, n), object(n)); err != nil {
			return err
		}
		if tag, err = s.Put(ctx, "head", object(n), objstore.IfMatch(tag)); err != nil {
			return err
		}
		fmt.Println(n)
	}
}

// kills is how often the writer is killed; each time somewhere else in its work.
const kills = 25

func TestKilledWriterLeavesOldOrNew(t *testing.T) {
	path := shm(t)
	s := open(t, path)
	if _, err := s.Put(t.Context(), "head", object(0), objstore.IfAbsent); err != nil {
		t.Fatal(err)
	}
	acked := uint64(0)
	for range kills {
		acked = max(acked, runAndKill(t, path))
		data, _, err := s.Get(t.Context(), "head")
		if err != nil {
			t.Fatal(err)
		}
		n := binary.BigEndian.Uint64(data)
		if !bytes.Equal(data, object(n)) {
			t.Fatalf("head %d is torn: %d bytes", n, len(data))
		}
		if n < acked || n > acked+1 {
			t.Fatalf("head is %d after %d was acknowledged", n, acked)
		}
		acked = n
		sees(t, s, n)
	}
	if acked < kills {
		t.Errorf("only %d writes between %d kills", acked, kills)
	}
	again := open(t, path)
	left, err := os.ReadDir(path + "/.understudy/writers")
	if err != nil || len(left) != 2 {
		t.Errorf("%d writers' directories, want those of the two open stores: %v", len(left), err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
}

// sees checks that the segments up to head are there, whole, and at most one beyond it.
func sees(t *testing.T, s *dir.Store, head uint64) {
	t.Helper()
	got := uint64(0)
	err := s.List(t.Context(), "segments/", "", func(i objstore.Info) bool {
		var d, n uint64
		if _, err := fmt.Sscanf(i.Key, "segments/%d/%d", &d, &n); err != nil || n > head+1 {
			t.Errorf("%s beyond head %d", i.Key, head)
		}
		if n+3 > head { // the older ones were read before
			data, _, err := s.Get(t.Context(), i.Key)
			if err != nil || !bytes.Equal(data, object(n)) {
				t.Errorf("%s is torn: %d bytes, %v", i.Key, len(data), err)
			}
		}
		if n <= head {
			got++
		}
		return true
	})
	if err != nil || got != head {
		t.Fatalf("%d segments up to head %d: %v", got, head, err)
	}
}

// runAndKill runs a writer, kills it after a few of its writes, and gives the last that it said was acknowledged.
func runAndKill(t *testing.T, path string) (acked uint64) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), writerEnv+"="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	hung := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	defer hung.Stop()
	first := true
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "stopped") {
			t.Fatal(lines.Text())
		}
		if _, err := fmt.Sscan(lines.Text(), &acked); err != nil {
			t.Fatalf("%q: %v", lines.Text(), err)
		}
		if first {
			time.AfterFunc(time.Duration(rand.Int64N(int64(20*time.Millisecond))), func() { _ = cmd.Process.Kill() })
			first = false
		}
	}
	_ = cmd.Wait()
	if first {
		t.Fatal("the writer did not begin within a minute")
	}
	return acked
}

func TestMissingDirectoryIsRefused(t *testing.T) {
	_, err := dir.Open(t.Context(), t.TempDir()+"/missing")
	if err == nil || !strings.Contains(err.Error(), "mount its disk") {
		t.Errorf("got %v", err)
	}
}
