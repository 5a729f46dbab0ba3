package azblob_test

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"github.com/understudy-ha/understudy/objstore"
	"github.com/understudy-ha/understudy/objstore/objtest"
	"github.com/understudy-ha/understudy/objstore/open"
)

// makeContainer makes a container, which the product never does.
func makeContainer(t *testing.T, s *objtest.Server, name string) {
	t.Helper()
	key, err := blob.NewSharedKeyCredential(objtest.AzuriteAccount, s.Credentials["accountKey"])
	if err != nil {
		t.Fatal(err)
	}
	c, err := container.NewClientWithSharedKeyCredential(s.URL+"/"+name, key, &container.ClientOptions{ClientOptions: azcore.ClientOptions{}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Create(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
}

func TestConformance(t *testing.T) {
	server := objtest.Azurite(t, t.TempDir())
	makeContainer(t, server, "vaults")
	var n atomic.Int64
	objtest.Run(t, objtest.Backend{Fresh: func(t *testing.T) func() objstore.Store {
		url := fmt.Sprintf("azblob://%s/vaults/p%d/q?endpoint=%s", objtest.AzuriteAccount, n.Add(1), server.URL)
		return func() objstore.Store { return mustOpen(t, url, server.Credentials) }
	}})
}

func mustOpen(t *testing.T, url string, creds open.Credentials) objstore.Store {
	t.Helper()
	s, err := open.Store(t.Context(), url, creds)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestWhatIsRefused(t *testing.T) {
	server := objtest.Azurite(t, t.TempDir())
	makeContainer(t, server, "vaults")
	at := func(c string) string {
		return fmt.Sprintf("azblob://%s/%s?endpoint=%s", objtest.AzuriteAccount, c, server.URL)
	}
	wrong := open.Credentials{"accountKey": "d3Jvbmc="}
	for name, s := range map[string]objstore.Store{
		"no container": mustOpen(t, at("nowhere"), server.Credentials),
		"wrong key":    mustOpen(t, at("vaults"), wrong),
		"wrong SAS":    mustOpen(t, at("vaults"), open.Credentials{"sasToken": "sv=2020-02-10&sig=s3cret"}),
	} {
		_, _, get := s.Get(t.Context(), "x")
		_, put := s.Put(t.Context(), "x", []byte("x"), objstore.IfAbsent)
		list := s.List(t.Context(), "", "", func(objstore.Info) bool { return true })
		for op, err := range map[string]error{"get": get, "put": put, "list": list} {
			if !errors.Is(err, objstore.ErrDenied) || strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s, %s: %v", name, op, err)
			}
		}
	}
	// Nothing was kept that was not asked for: what was acknowledged survives the server's death.
	s := mustOpen(t, at("vaults"), server.Credentials)
	server.Kill()
	_, err := s.Put(t.Context(), "x", nil, objstore.IfAbsent)
	if !errors.Is(err, objstore.ErrUnavailable) && !errors.Is(err, objstore.ErrUnknown) {
		t.Errorf("put to a dead server: %v", err)
	}
}
