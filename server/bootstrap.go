package server

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/client"
	"github.com/understudy-ha/understudy/lead"
	"github.com/understudy-ha/understudy/pki"
)

// Where things lie in a controller's directory.
const (
	fileKey    = "key"          // seals secrets; 32 bytes, 0600; the same on every controller
	fileCA     = "pki/ca.crt"   // PEM
	fileCAKey  = "pki/ca.key"   // PEM, sealed with the key file
	fileCert   = "pki/tls.crt"  // this controller's, PEM
	fileTLSKey = "pki/tls.key"  // PEM
	fileSeed   = "cluster.json" // what the first start writes into an empty store
	fileToken  = "admin.token"
	// FileClient is the client's configuration.
	FileClient = "client.yaml"
)

// seed is what a new cluster's store begins with.
type seed struct {
	Cluster clusterDoc `json:"cluster"`
	// Admin is the first token, without its secret.
	Admin tokenDoc `json:"admin"`
}

// clusterDoc lies at clusterKey.
type clusterDoc struct {
	ClusterID string `json:"clusterID"`
	// Proof is the CA's signature over the id.
	Proof []byte `json:"proof"`
}

// caDoc lies at caKey: whoever has the key file can issue certificates.
type caDoc struct {
	Cert   []byte `json:"cert"`
	Sealed []byte `json:"sealed"`
}

const (
	clusterKey = "cluster/id"
	caKey      = "cluster/ca"
)

// Controller is one controller of a cluster to be made.
type Controller struct {
	Name string
	// Host is its address or name, without a port.
	Host string
}

// InitOptions of a new cluster.
type InitOptions struct {
	Controllers []Controller
	Store       StoreConfig
	Lease       LeaseConfig
}

// material is what all controllers of a new cluster share.
type material struct {
	ca    *pki.CA
	key   []byte
	seal  *pki.Sealer
	seed  seed
	token string
}

// newMaterial is that of a cluster's life of the given serial.
func newMaterial(now time.Time, serial uint64, by string) (*material, error) {
	ca, err := pki.NewCA(now)
	if err != nil {
		return nil, err
	}
	key := pki.NewSealKey()
	seal, err := pki.NewSealer(key)
	if err != nil {
		return nil, err
	}
	m := &material{ca: ca, key: key, seal: seal}
	if m.seed.Cluster, err = newCluster(ca, serial); err != nil {
		return nil, err
	}
	m.token, m.seed.Admin = newToken(api.TokenInfo{Kind: api.TokenBearer, User: "admin", Role: api.Admin, Tenant: api.AllTenants,
		Created: now.UTC(), Expires: now.Add(10 * pki.UserLife).UTC(), By: by})
	return m, nil
}

// newCluster makes a cluster id of the given serial, vouched for by the CA.
func newCluster(ca *pki.CA, serial uint64) (clusterDoc, error) {
	suffix := make([]byte, 6)
	rand.Read(suffix)
	id := lead.ClusterID(serial, hex.EncodeToString(suffix))
	proof, err := ca.Prove(id)
	return clusterDoc{ClusterID: id, Proof: proof}, err
}

// InitCluster makes a directory for each controller under dir, and dir/client.yaml. It refuses directories that have one.
func InitCluster(dir string, o InitOptions, now time.Time) error {
	if len(o.Controllers) == 0 {
		return invalid("controller", "", "at least one NAME=ADDRESS; three survive the loss of one")
	}
	m, err := newMaterial(now, 1, "cluster init")
	if err != nil {
		return err
	}
	peers, servers, etcds := map[string]string{}, []string{}, []string{}
	for _, c := range o.Controllers {
		peers[c.Name] = net.JoinHostPort(c.Host, "7443")
		servers = append(servers, "https://"+net.JoinHostPort(c.Host, "8443"))
		etcds = append(etcds, c.Name+"=https://"+net.JoinHostPort(c.Host, "2380"))
	}
	if len(peers) != len(o.Controllers) {
		return invalid("controller", fmt.Sprint(o.Controllers), "names that differ")
	}
	for _, c := range o.Controllers {
		cfg := Config{Name: c.Name, Listen: net.JoinHostPort(c.Host, "8443"), ClusterListen: peers[c.Name], Peers: peers,
			Servers: servers, Store: o.Store, Lease: o.Lease}
		if len(o.Store.Endpoints) == 0 && o.Store.Type != StoreZooKeeper && len(o.Controllers) > 1 {
			cfg.Store.Etcd.PeerURL = "https://" + net.JoinHostPort(c.Host, "2380")
			cfg.Store.Etcd.InitialCluster = strings.Join(etcds, ",")
		}
		sub := filepath.Join(dir, c.Name)
		check := cfg
		check.Default(sub)
		if err := check.Validate(); err != nil {
			return err
		}
		if err := m.write(sub, cfg, now); err != nil {
			return err
		}
		if err := cfg.Save(sub); err != nil {
			return err
		}
	}
	return m.clientConfig(servers).Save(filepath.Join(dir, FileClient))
}

func (m *material) clientConfig(servers []string) client.Config {
	return client.Config{Servers: servers, CA: string(m.ca.CertPEM()), Token: m.token}
}

// write makes a controller's directory.
func (m *material) write(dir string, cfg Config, now time.Time) error {
	if _, err := os.Stat(filepath.Join(dir, fileKey)); err == nil {
		return fmt.Errorf("%s holds a controller already; remove it first, or choose another directory", dir)
	}
	if err := os.MkdirAll(filepath.Join(dir, "pki"), 0o700); err != nil {
		return err
	}
	caKeyPEM, err := m.ca.KeyPEM()
	if err != nil {
		return err
	}
	seedDoc, err := json.MarshalIndent(m.seed, "", "  ")
	if err != nil {
		return err
	}
	cert, key, err := issueController(m.ca, cfg, now)
	if err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		data []byte
	}{
		{fileCA, m.ca.CertPEM()}, {fileCAKey, m.seal.Seal(caKey, caKeyPEM)}, {fileSeed, seedDoc},
		{fileKey, m.key}, // last: its presence says that the directory is whole
	} {
		if f.name == fileKey {
			if err := saveCert(dir, cert, key); err != nil {
				return err
			}
		}
		if err := pki.WriteFile(filepath.Join(dir, f.name), f.data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// issueController gives a controller a new key and certificate.
func issueController(ca *pki.CA, cfg Config, now time.Time) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := pki.NewKey()
	if err != nil {
		return nil, nil, err
	}
	r := pki.Request{CN: pki.Controller(cfg.Name).String(), Public: &key.PublicKey, Server: true, Life: pki.CertLife,
		DNS: []string{"localhost"}, IPs: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}}
	for _, addr := range []string{cfg.Listen, cfg.ClusterListen, cfg.Peers[cfg.Name]} {
		host, _, err := net.SplitHostPort(addr)
		if err != nil || host == "" {
			continue
		}
		if ip, err := netip.ParseAddr(host); err == nil {
			r.IPs = append(r.IPs, net.IP(ip.AsSlice()))
		} else {
			r.DNS = append(r.DNS, host)
		}
	}
	cert, err := ca.Issue(now, r)
	return cert, key, err
}

func saveCert(dir string, cert *x509.Certificate, key *ecdsa.PrivateKey) error {
	keyPEM, err := pki.EncodeKey(key)
	if err != nil {
		return err
	}
	return errors.Join(pki.WriteFile(filepath.Join(dir, fileTLSKey), keyPEM, 0o600),
		pki.WriteFile(filepath.Join(dir, fileCert), pki.EncodeCert(cert.Raw), 0o600))
}

// EnsureDir makes dir a controller of its own cluster if it holds none yet, and tells whether it did.
func EnsureDir(dir string, cfg Config, now time.Time) (made bool, err error) {
	if _, err := os.Stat(filepath.Join(dir, fileKey)); !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	m, err := newMaterial(now, 1, "cluster init")
	if err != nil {
		return false, err
	}
	if err := m.write(dir, cfg, now); err != nil {
		return false, err
	}
	if err := pki.WriteFile(filepath.Join(dir, fileToken), []byte(m.token+"\n"), 0o600); err != nil {
		return false, err
	}
	return true, m.clientConfig(cfg.Servers).Save(filepath.Join(dir, FileClient))
}

// identity is what a controller's directory holds.
type identity struct {
	ca   *pki.CA
	cert *pki.Holder
	seal *pki.Sealer
	seed seed
}

// loadIdentity reads a controller's directory. A certificate that is due for renewal, or that a crash left without
// its key, is replaced.
func loadIdentity(dir string, cfg Config) (*identity, error) {
	seal, err := pki.OpenSealer(filepath.Join(dir, fileKey))
	if err != nil {
		return nil, err
	}
	read := func(name string) []byte {
		b, e := os.ReadFile(filepath.Join(dir, name))
		err = errors.Join(err, e)
		return b
	}
	caPEM, sealed, certPEM, keyPEM, seedDoc := read(fileCA), read(fileCAKey), read(fileCert), read(fileTLSKey), read(fileSeed)
	if err != nil {
		return nil, err
	}
	id := &identity{seal: seal}
	caKeyPEM, err := seal.Open(caKey, sealed)
	if err != nil {
		return nil, err
	}
	if id.ca, err = pki.LoadCA(caPEM, caKeyPEM); err != nil {
		return nil, err
	}
	id.cert, err = pki.LoadHolder(certPEM, keyPEM)
	if err != nil || !time.Now().Before(pki.RenewAt(id.cert.Leaf())) || id.cert.Leaf().Subject.CommonName != pki.Controller(cfg.Name).String() {
		cert, key, err := issueController(id.ca, cfg, time.Now())
		if err == nil {
			err = saveCert(dir, cert, key)
		}
		if err != nil {
			return nil, fmt.Errorf("renew %s: %w", fileCert, err)
		}
		id.cert = pki.NewHolder(cert, key)
	}
	return id, json.Unmarshal(seedDoc, &id.seed)
}
