package client

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/understudy-ha/understudy/pki"
)

// Config says where the controllers are and who asks: client.yaml.
type Config struct {
	// Servers are the controllers' API addresses ("https://10.0.9.1:8443"); the first that answers is asked.
	Servers []string `json:"servers"`
	// CA of the cluster in PEM.
	CA string `json:"ca"`
	// Token opens the API; or else CertFile and KeyFile do, PEM, relative to the configuration's directory.
	Token    string `json:"token,omitempty"`
	CertFile string `json:"certFile,omitempty"`
	KeyFile  string `json:"keyFile,omitempty"`
	// Tenant that is meant when none is named. Default: the credential's own.
	Tenant string `json:"tenant,omitempty"`

	dir string
}

// Load reads a configuration.
func Load(path string) (Config, error) {
	c := Config{dir: filepath.Dir(path)}
	b, err := os.ReadFile(path)
	if err != nil {
		return c, err
	}
	if err := yaml.UnmarshalStrict(b, &c); err != nil {
		return c, fmt.Errorf("%s: %w", path, err)
	}
	if len(c.Servers) == 0 || c.CA == "" {
		return c, fmt.Errorf("%s: want servers and ca", path)
	}
	return c, nil
}

// Save writes the configuration, readable by its owner only.
func (c Config) Save(path string) error {
	b, err := yaml.Marshal(c)
	if err != nil {
		return err
	}
	return pki.WriteFile(path, b, 0o600)
}

// Find gives the configuration's path: path if it is set, $UNDERSTUDY_CONFIG, or the first of client.yaml in
// $UNDERSTUDY_DIR, ~/.understudy and /var/lib/understudy that exists.
func Find(path string) (string, error) {
	if path == "" {
		path = os.Getenv("UNDERSTUDY_CONFIG")
	}
	if path != "" {
		return path, nil
	}
	var dirs []string
	if d := os.Getenv("UNDERSTUDY_DIR"); d != "" {
		dirs = append(dirs, d)
	}
	if home, err := os.UserHomeDir(); err == nil {
		dirs = append(dirs, filepath.Join(home, ".understudy"))
	}
	dirs = append(dirs, "/var/lib/understudy")
	for _, d := range dirs {
		p := filepath.Join(d, "client.yaml")
		if f, err := os.Open(p); err == nil {
			return p, f.Close()
		}
	}
	return "", errors.New("no client.yaml in " + strings.Join(dirs, ", ") +
		": start a controller (understudy server), or name one with --config or UNDERSTUDY_CONFIG")
}

func (c Config) tls() (*tls.Config, error) {
	ca, err := pki.ParseCert([]byte(c.CA))
	if err != nil {
		return nil, fmt.Errorf("client configuration: ca: %w", err)
	}
	if c.CertFile == "" {
		return pki.ClientTLS(ca, nil, pki.RoleController), nil
	}
	certPEM, err := os.ReadFile(c.path(c.CertFile))
	if err != nil {
		return nil, err
	}
	keyPEM, err := os.ReadFile(c.path(c.KeyFile))
	if err != nil {
		return nil, err
	}
	cert, err := pki.LoadHolder(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("client configuration: %s: %w", c.CertFile, err)
	}
	return pki.ClientTLS(ca, cert, pki.RoleController), nil
}

func (c Config) path(p string) string {
	if filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(c.dir, p)
}
