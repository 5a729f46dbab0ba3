package nbd

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Other people's clients, each a program from scripts/deps.sh.

// tool runs a program, which must succeed within a minute, and gives what it says.
func tool(t testing.TB, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v (tools come from scripts/deps.sh)\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func contains(t testing.TB, s string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(s, p) {
			t.Errorf("%q is not in:\n%s", p, s)
		}
	}
}

// patterned is a disk with data at [1M, 3M) and [8M, 9M) of 16 MiB.
func patterned(t testing.TB) (path string) {
	t.Helper()
	path = sparseFile(t, memoryDir(t), 16<<20)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rng := rand.NewChaCha8([32]byte{1})
	for _, r := range [][2]int64{{1 << 20, 2 << 20}, {8 << 20, 1 << 20}} {
		b := make([]byte, r[1])
		_, _ = rng.Read(b)
		if _, err := f.WriteAt(b, r[0]); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

func same(t testing.TB, a, b string) {
	t.Helper()
	x, err := os.ReadFile(a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := os.ReadFile(b)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(x, y) {
		t.Errorf("%s and %s differ", a, b)
	}
}

func TestNbdinfo(t *testing.T) {
	disk := openDisk(t, patterned(t))
	_, path := serve(t, Config{}, Export{Name: "d1", Description: "first disk", Backend: disk}, Export{Name: "d2", Backend: disk, ReadOnly: true})
	var info struct {
		Protocol string
		TLS      bool `json:"TLS"`
		Exports  []map[string]any
	}
	if err := json.Unmarshal([]byte(tool(t, "nbdinfo", "--json", URI("unix", path, "d1"))), &info); err != nil {
		t.Fatal(err)
	}
	e := info.Exports[0]
	for key, want := range map[string]any{
		"export-name": "d1", "description": "first disk", "export-size": 16777216.0, "is_read_only": false, "is_rotational": false, "can_flush": true,
		"can_fua": true, "can_trim": true, "can_zero": true, "can_multi_conn": true, "can_df": true, "can_cache": false, "can_fast_zero": false,
		"block_size_minimum": 512.0, "block_size_preferred": 4096.0, "block_size_maximum": 33554432.0,
	} {
		if e[key] != want {
			t.Errorf("%s is %v, want %v", key, e[key], want)
		}
	}
	if info.Protocol != "newstyle-fixed" || fmt.Sprint(e["contexts"]) != "[base:allocation]" {
		t.Errorf("protocol %s, contexts %v", info.Protocol, e["contexts"])
	}
	list := tool(t, "nbdinfo", "--list", URI("unix", path, ""))
	contains(t, list, `export="d1"`, `export="d2"`, "first disk", "is_read_only: true")
	m := strings.Join(strings.Fields(tool(t, "nbdinfo", "--map", URI("unix", path, "d1"))), " ")
	want := "0 1048576 3 hole,zero 1048576 2097152 0 data 3145728 5242880 3 hole,zero 8388608 1048576 0 data 9437184 7340032 3 hole,zero"
	if m != want {
		t.Errorf("map %s\nwant %s", m, want)
	}
}

func TestNbdcopyThereAndBack(t *testing.T) {
	from := patterned(t)
	to := sparseFile(t, memoryDir(t), 16<<20)
	_, path := serve(t, Config{}, Export{Name: "from", Backend: openDisk(t, from), ReadOnly: true}, Export{Name: "to", Backend: openDisk(t, to)})
	tool(t, "nbdcopy", "--flush", URI("unix", path, "from"), URI("unix", path, "to"))
	same(t, from, to)
	back := filepath.Join(memoryDir(t), "back.raw")
	tool(t, "nbdcopy", URI("unix", path, "to"), back)
	same(t, from, back)
}

func TestQemuImg(t *testing.T) {
	from := patterned(t)
	to := sparseFile(t, memoryDir(t), 16<<20)
	_, path := serve(t, Config{}, Export{Name: "from", Backend: openDisk(t, from), ReadOnly: true}, Export{Name: "to", Backend: openDisk(t, to)})
	src, dst := URI("unix", path, "from"), URI("unix", path, "to")
	contains(t, tool(t, "qemu-img", "info", src), "virtual size: 16 MiB", "file format: raw")
	contains(t, tool(t, "qemu-img", "map", "--output=json", src), `"start": 1048576, "length": 2097152, "depth": 0, "present": true, "zero": false, "data": true`,
		`"start": 9437184, "length": 7340032, "depth": 0, "present": true, "zero": true, "data": false`)
	tool(t, "qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", src, dst)
	contains(t, tool(t, "qemu-img", "compare", "-f", "raw", "-F", "raw", src, dst), "Images are identical.")
	same(t, from, to)
}

func TestQemuIO(t *testing.T) {
	m := newMemory(64 << 20)
	_, path := serve(t, Config{}, Export{Backend: m})
	out := tool(t, "qemu-io", "-f", "raw", "-c", "write -P 0xab 0 1M", "-c", "write -f -P 0xcd 1M 4k", "-c", "write -P 0xef 2049k 1536", "-c", "discard 0 64k",
		"-c", "write -z 64k 64k", "-c", "write -z -u 128k 64k", "-c", "flush", "-c", "read -P 0 0 192k", "-c", "read -P 0xab 192k 832k", "-c", "read -P 0xcd 1M 4k",
		"-c", "read -P 0xef 2049k 1536", "-c", "write -z 0 64M", "-c", "read -P 0 0 64M", URI("unix", path, ""))
	if strings.Contains(out, "Pattern verification failed") || strings.Contains(strings.ToLower(out), "error") {
		t.Error(out)
	}
	if m.fuas == 0 || m.flushes == 0 {
		t.Errorf("%d with FUA, %d flushes: want some of each", m.fuas, m.flushes)
	}
}

func TestNbdsh(t *testing.T) {
	m := newMemory(16 << 20)
	_, path := serve(t, Config{}, Export{Name: "d", Backend: m})
	script := filepath.Join(t.TempDir(), "t.py")
	if err := os.WriteFile(script, []byte(`
import nbd, errno, sys
uri, data = sys.argv[1], b"x" * 131072
def conn():
    h = nbd.NBD(); h.add_meta_context("base:allocation"); h.connect_uri(uri); return h
a, b = conn(), conn()
assert a.get_structured_replies_negotiated() and a.can_meta_context("base:allocation") and a.can_multi_conn() and a.can_df()
a.pwrite(data, 1048576); a.pwrite(b"y" * 512, 512, nbd.CMD_FLAG_FUA)
b.flush()
assert b.pread(512, 512) == b"y" * 512
chunks = []
def chunk(buf, off, status, err): chunks.append((off, len(buf), status))
got = a.pread_structured(1048576, 524288, chunk)
assert bytes(got) == b"\0" * 524288 + data + b"\0" * 393216
assert chunks == [(524288, 524288, nbd.READ_HOLE), (1048576, 131072, nbd.READ_DATA), (1179648, 393216, nbd.READ_HOLE)], chunks
chunks.clear()
a.pread_structured(1048576, 524288, chunk, nbd.CMD_FLAG_DF)
assert chunks == [(524288, 1048576, nbd.READ_DATA)], chunks
seen = []
def status(ctx, off, extents, err): seen.append((ctx, off, list(extents)))
a.block_status(2097152, 0, status)
assert seen == [("base:allocation", 0, [4096, 0, 1044480, 3, 131072, 0, 917504, 3])], seen
seen.clear()
a.block_status(2097152, 1048576, status, nbd.CMD_FLAG_REQ_ONE)
assert seen == [("base:allocation", 1048576, [131072, 0])], seen
a.set_strict_mode(0)
for call, want in [
    (lambda: a.pread(512, 16777216), errno.EINVAL), (lambda: a.pwrite(b"z" * 512, 16777216), errno.ENOSPC), (lambda: a.pread(100, 7), errno.EINVAL),
    (lambda: a.zero(512, 0, nbd.CMD_FLAG_FAST_ZERO), errno.EINVAL), (lambda: a.cache(512, 0), errno.EINVAL),
]:
    try: call()
    except nbd.Error as e: assert e.errnum == want, (e, want)
    else: raise AssertionError("was not refused")
a.zero(4294967296 - 512, 0) if a.get_size() > 4294967295 else a.zero(16777216, 0)
assert a.pread(1048576, 524288) == b"\0" * 1048576
a.shutdown(); b.shutdown(); print("fine")
`), 0o600); err != nil {
		t.Fatal(err)
	}
	contains(t, tool(t, "/usr/bin/python3", script, URI("unix", path, "d")), "fine")
	if m.flushes != 1 || m.fuas != 1 {
		t.Errorf("%d flushes, %d with FUA: want 1 and 1", m.flushes, m.fuas)
	}
}

func TestFioVerifies(t *testing.T) {
	for _, blocking := range []bool{false, true} {
		t.Run(fmt.Sprintf("blocking=%v", blocking), func(t *testing.T) {
			_, path := serve(t, Config{}, Export{Name: "d", Backend: openDisk(t, sparseFile(t, memoryDir(t), 32<<20)), Blocking: blocking})
			tool(t, "fio", "--name=v", "--ioengine=nbd", "--uri="+URI("unix", path, "d"), "--rw=randwrite", "--bsrange=512-256k", "--iodepth=16", "--size=32M",
				"--verify=crc32c", "--verify_fatal=1", "--verify_state_save=0", "--fsync=64")
		})
	}
}

// TestDisksBeyond4GiB: giant ranges are ranges, never data, and their space comes back.
func TestDisksBeyond4GiB(t *testing.T) {
	const size = 1 << 40
	disk := tempDisk(t, size)
	_, path := serve(t, Config{}, Export{Name: "d", Backend: openDisk(t, disk)})
	c := dial(t, path, "d")
	ctx := context.Background()
	mark := bytes.Repeat([]byte{7}, 4096)
	for _, off := range []int64{0, 1<<32 - 4096, 1 << 32, 5 << 30, size - 4096} {
		if err := c.WriteAt(ctx, mark, off, false); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	if err := c.Trim(ctx, 4096, 6<<30, true); err != nil {
		t.Fatal(err)
	}
	if err := c.Zero(ctx, size/2, 200<<30, true, false); err != nil {
		t.Fatal(err)
	}
	t.Logf("206 GiB given back in %v", time.Since(began))
	got := make([]byte, 4096)
	for off, want := range map[int64]byte{0: 7, 1<<32 - 4096: 0, 1 << 32: 0, 5 << 30: 0, size - 4096: 7} {
		if err := c.ReadAt(ctx, got, off); err != nil || got[0] != want {
			t.Errorf("at %d: %d, %v: want %d", off, got[0], err, want)
		}
	}
	var data int64
	for at := int64(0); at < size; {
		if err := c.Extents(ctx, at, size-at, func(off, n int64, e Extent) bool {
			if e == 0 {
				data += n
			}
			at += n
			return true
		}); err != nil {
			t.Fatal(err)
		}
	}
	if data > 64<<10 {
		t.Errorf("%d bytes of data are left: want 8192", data)
	}
}
