package main

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"time"

	"filippo.io/age"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/engines"
	"github.com/understudy-ha/understudy/objstore/dir"
	"github.com/understudy-ha/understudy/pki"
	"github.com/understudy-ha/understudy/vault"
)

// sites is what agents would give their engines: certificates and a vault with its key.
type sites struct {
	o   options
	ca  *pki.CA
	key *age.X25519Identity
	at  string // directory of the vault
}

func newSites(o options, at string) (*sites, error) {
	ca, err := pki.NewCA(time.Now())
	if err != nil {
		return nil, err
	}
	key, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, err
	}
	return &sites{o, ca, key, at}, os.MkdirAll(at, 0o700)
}

// access is how engines reach the vault; readers have its key.
func (s *sites) access(reads bool) api.VaultAccess {
	v := api.VaultAccess{Name: "far", URL: "file://" + s.at, Recipient: s.key.Recipient().String()}
	if reads {
		v.KeyRef = "key"
	}
	return v
}

// open opens the vault with its key, and makes it if there is none.
func (s *sites) open(ctx context.Context) (*vault.Vault, *dir.Store, error) {
	store, err := dir.Open(ctx, s.at)
	if err != nil {
		return nil, nil, err
	}
	v, err := vault.Create(ctx, store, s.key.Recipient().String(), vault.Options{Identity: s.key})
	if errors.Is(err, vault.ErrExists) {
		v, err = vault.Open(ctx, store, vault.Options{Identity: s.key})
	}
	return v, store, err
}

// engine is an engine of ours that runs.
type engine struct {
	*process
	home engines.Home
	cfg  engines.Config
}

// disk is where an engine serves its machine's one disk.
func (e *engine) disk() string { return filepath.Join(string(e.home), "disk.sock") }

// run starts an engine as its agent would, on a core, in a home. It listens for control when this returns.
func (s *sites) run(ctx context.Context, home, node string, core int, section api.Section) (*engine, error) {
	e := &engine{home: engines.Home(home)}
	if err := os.MkdirAll(home, 0o700); err != nil {
		return nil, err
	}
	identity := filepath.Join(home, "identity.json")
	if err := s.enrol(node, identity); err != nil {
		return nil, err
	}
	e.cfg = engines.Config{Section: section, Confirmed: true, IdentityFile: identity, HooksDir: home,
		Secrets: map[string]map[string]string{"key": {"identity": s.key.String()}}}
	if err := e.home.WriteConfig(e.cfg); err != nil {
		return nil, err
	}
	var err error
	if e.process, err = start(section.Engine, core, s.o.understudy, "engine", "--dir", home); err != nil {
		return nil, err
	}
	return e, e.listens(ctx, e.home.Socket())
}

// enrol writes the identity of a node.
func (s *sites) enrol(node, path string) error {
	key, err := pki.NewKey()
	if err != nil {
		return err
	}
	cert, err := s.ca.Issue(time.Now(), pki.Request{CN: pki.Node("default", node).String(), Public: &key.PublicKey, Server: true, Life: 24 * time.Hour})
	if err != nil {
		return err
	}
	text, err := pki.EncodeKey(key)
	if err != nil {
		return err
	}
	b, err := json.Marshal(map[string]string{"node": node, "tenant": "default", "ca": string(s.ca.CertPEM()), "cert": string(pki.EncodeCert(cert.Raw)),
		"key": string(text)})
	if err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o600)
}

// freePort finds a TCP address of this machine that nobody listens on.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
