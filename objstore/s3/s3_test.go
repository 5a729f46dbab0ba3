package s3_test

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/understudy-ha/understudy/objstore"
	"github.com/understudy-ha/understudy/objstore/objtest"
	"github.com/understudy-ha/understudy/objstore/open"
)

func mustOpen(t *testing.T, url string, creds open.Credentials) objstore.Store {
	t.Helper()
	s, err := open.Store(t.Context(), url, creds)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func suite(t *testing.T, endpoint string, creds open.Credentials) {
	t.Helper()
	var n atomic.Int64
	objtest.Run(t, objtest.Backend{Fresh: func(t *testing.T) func() objstore.Store {
		url := fmt.Sprintf("s3://vaults/p%d/q?endpoint=%s", n.Add(1), endpoint)
		return func() objstore.Store { return mustOpen(t, url, creds) }
	}})
}

func TestConformanceInProcess(t *testing.T) {
	back := s3mem.New()
	if err := back.CreateBucket("vaults"); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(gofakes3.New(back).Server())
	defer srv.Close()
	suite(t, srv.URL, open.Credentials{"accessKeyID": "a", "secretAccessKey": "b"})
}

func gateway(t *testing.T) *objtest.Server {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "vaults"), 0o755); err != nil {
		t.Fatal(err)
	}
	return objtest.VersityGW(t, dir)
}

func TestConformance(t *testing.T) {
	server := gateway(t)
	suite(t, server.URL, server.Credentials)
}

func TestWhatIsRefused(t *testing.T) {
	server := gateway(t)
	at := func(b string) string { return fmt.Sprintf("s3://%s?endpoint=%s", b, server.URL) }
	for name, s := range map[string]objstore.Store{
		"no bucket": mustOpen(t, at("nowhere"), server.Credentials),
		"wrong key": mustOpen(t, at("vaults"), open.Credentials{"accessKeyID": "test", "secretAccessKey": "wrong"}),
	} {
		_, _, get := s.Get(t.Context(), "x")
		_, head := s.Head(t.Context(), "x")
		_, put := s.Put(t.Context(), "x", []byte("x"), objstore.IfAbsent)
		list := s.List(t.Context(), "", "", func(objstore.Info) bool { return true })
		for op, err := range map[string]error{"get": get, "head": head, "put": put, "list": list} {
			if !errors.Is(err, objstore.ErrDenied) {
				t.Errorf("%s, %s: %v", name, op, err)
			}
		}
	}
	s := mustOpen(t, at("vaults"), server.Credentials)
	server.Kill()
	_, err := s.Put(t.Context(), "x", nil, objstore.IfAbsent)
	if !errors.Is(err, objstore.ErrUnavailable) && !errors.Is(err, objstore.ErrUnknown) {
		t.Errorf("put to a dead server: %v", err)
	}
}
