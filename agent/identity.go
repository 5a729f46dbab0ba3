package agent

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/understudy-ha/understudy/lead"
	"github.com/understudy-ha/understudy/pki"
	"github.com/understudy-ha/understudy/wire"
)

const identityFile = "identity.json"

// identity is who the node is in its cluster: one file, so that it is there whole or not at all.
type identity struct {
	Node           string   `json:"node"`
	Tenant         string   `json:"tenant"`
	ControllerList []string `json:"controllers"`
	TTLMs          int64    `json:"ttlMs"`
	MarginMs       int64    `json:"marginMs"`
	CA             string   `json:"ca"`
	Cert           string   `json:"cert"`
	Key            string   `json:"key"`

	path string
	ca   *x509.Certificate
	cert *pki.Holder
}

// ErrNotEnrolled says that the agent has neither an identity nor a token to get one.
var ErrNotEnrolled = errors.New(`this node is not enrolled: want --token from "understudy token create --node NAME"`)

// openIdentity reads the identity, or enrols.
func openIdentity(ctx context.Context, cfg Config) (*identity, error) {
	path := filepath.Join(cfg.Dir, identityFile)
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return enrol(ctx, cfg, path)
	case err != nil:
		return nil, fmt.Errorf("identity: %w", err)
	}
	id := &identity{path: path}
	if err := json.Unmarshal(b, id); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return id, id.open()
}

// open parses what the file holds.
func (id *identity) open() (err error) {
	if id.ca, err = pki.ParseCert([]byte(id.CA)); err != nil {
		return fmt.Errorf("%s: ca: %w", id.path, err)
	}
	if id.cert, err = pki.LoadHolder([]byte(id.Cert), []byte(id.Key)); err != nil {
		return fmt.Errorf("%s: %w", id.path, err)
	}
	if err := id.timing().Validate(); err != nil {
		return fmt.Errorf("%s: %w", id.path, err)
	}
	return nil
}

func (id *identity) save() error {
	b, err := json.MarshalIndent(id, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(id.path, b, true)
}

func (id *identity) timing() lead.Timing {
	return lead.Timing{TTL: time.Duration(id.TTLMs) * time.Millisecond, Margin: time.Duration(id.MarginMs) * time.Millisecond}
}

// controllers are those of the config, or else those the cluster named.
func (id *identity) controllers(cfg Config) []string {
	if len(cfg.Controllers) > 0 {
		return cfg.Controllers
	}
	return id.ControllerList
}

// enrolWait is the time between rounds over the controllers.
const enrolWait = 500 * time.Millisecond

// enrol turns the token into an identity. It tries while no controller answers; a refusal is final.
func enrol(ctx context.Context, cfg Config, path string) (*identity, error) {
	if cfg.Token == "" {
		return nil, ErrNotEnrolled
	}
	if len(cfg.Controllers) == 0 {
		return nil, errors.New("enrol: no controllers: want --controllers HOST:PORT,…")
	}
	secret, sum, err := wire.SplitToken(cfg.Token)
	if err != nil {
		return nil, err
	}
	said := false
	for {
		var id *identity
		for _, address := range cfg.Controllers {
			if id, err = enrolAt(ctx, address, secret, sum); err == nil {
				id.path = path
				return id, errors.Join(id.open(), id.save())
			}
			if final(err) {
				return nil, fmt.Errorf("enrol at %s: %w", address, err)
			}
		}
		if !said {
			said = true
			cfg.Log.Info("no controller enrols this node yet; trying on", "err", err)
		}
		if sleep(ctx, enrolWait); ctx.Err() != nil {
			return nil, errors.Join(ctx.Err(), err)
		}
	}
}

// errAuthority says that a controller belongs to another cluster than the token.
var errAuthority = errors.New("this controller's cluster is not the one that made the token")

func final(err error) bool {
	c := status.Code(err)
	return errors.Is(err, errAuthority) || c == codes.Unauthenticated || c == codes.InvalidArgument || c == codes.PermissionDenied
}

// enrolAt asks one controller: first, over a connection that is not trusted, for the CA's certificate, which the
// token's fingerprint proves; then over one that is.
func enrolAt(ctx context.Context, address, secret string, sum [sha256.Size]byte) (*identity, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	ca, err := fetchCA(ctx, address, sum)
	if err != nil {
		return nil, err
	}
	key, err := pki.NewKey()
	if err != nil {
		return nil, err
	}
	csr, err := pki.NewCSR(key)
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(credentials.NewTLS(pki.ClientTLS(ca, nil, pki.RoleController))))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	r, err := wire.NewEnrolmentClient(conn).Enrol(ctx, &wire.EnrolRequest{Token: secret, Csr: csr})
	if err != nil {
		return nil, err
	}
	keyPEM, err := pki.EncodeKey(key)
	if err != nil {
		return nil, err
	}
	return &identity{Node: r.Node, Tenant: r.Tenant, ControllerList: r.Controllers, TTLMs: r.TtlMs, MarginMs: r.MarginMs,
		CA: string(pki.EncodeCert(ca.Raw)), Cert: string(pki.EncodeCert(r.Certificate)), Key: string(keyPEM)}, nil
}

func fetchCA(ctx context.Context, address string, sum [sha256.Size]byte) (*x509.Certificate, error) {
	open := &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true} // nothing is said over it, and what is heard is checked
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(credentials.NewTLS(open)))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	r, err := wire.NewEnrolmentClient(conn).Authority(ctx, &wire.AuthorityRequest{})
	if err != nil {
		return nil, err
	}
	if sha256.Sum256(r.Ca) != sum {
		return nil, errAuthority
	}
	return x509.ParseCertificate(r.Ca)
}

// renewRetry is the time between attempts to renew the certificate.
const renewRetry = time.Minute

// renewCertificate replaces the certificate, with a fresh key, when a third of its life is left.
func (l *loop) renewCertificate(ctx context.Context) error {
	for {
		if sleep(ctx, max(renewRetry, time.Until(pki.RenewAt(l.id.cert.Leaf())))); ctx.Err() != nil {
			return nil
		}
		var err error
		for _, address := range l.id.controllers(l.cfg) {
			if err = l.id.renewAt(ctx, address); err == nil {
				l.cfg.Log.Info("certificate renewed", "until", l.id.cert.Leaf().NotAfter)
				l.engines.children.reread()
				break
			}
		}
		if err != nil {
			l.cfg.Log.Warn("certificate not renewed", "until", l.id.cert.Leaf().NotAfter, "err", err)
		}
	}
}

// renewAt gets a new certificate from one controller by showing the present one.
func (id *identity) renewAt(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	key, err := pki.NewKey()
	if err != nil {
		return err
	}
	csr, err := pki.NewCSR(key)
	if err != nil {
		return err
	}
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(credentials.NewTLS(pki.ClientTLS(id.ca, id.cert, pki.RoleController))))
	if err != nil {
		return err
	}
	defer conn.Close()
	r, err := wire.NewEnrolmentClient(conn).Enrol(ctx, &wire.EnrolRequest{Csr: csr})
	if err != nil {
		return err
	}
	keyPEM, err := pki.EncodeKey(key)
	if err != nil {
		return err
	}
	next := *id
	next.Cert, next.Key = string(pki.EncodeCert(r.Certificate)), string(keyPEM)
	if err := errors.Join(next.open(), next.save()); err != nil {
		return err
	}
	id.Cert, id.Key = next.Cert, next.Key
	id.cert.Set(next.cert.Leaf(), key)
	return nil
}
