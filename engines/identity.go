package engines

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"

	"github.com/understudy-ha/understudy/pki"
)

// NodeIdentity is who the engine's node is in its cluster.
type NodeIdentity struct {
	// Node is tenant/name.
	Node string
	CA   *x509.Certificate
	Cert *pki.Holder
}

// ReadNodeIdentity reads what the agent keeps now; after the agent has renewed its certificate it must be read again.
func ReadNodeIdentity(file string) (NodeIdentity, error) {
	var f struct{ Node, Tenant, CA, Cert, Key string }
	b, err := os.ReadFile(file)
	if err != nil {
		return NodeIdentity{}, fmt.Errorf("node identity: %w", err)
	}
	if err := json.Unmarshal(b, &f); err != nil {
		return NodeIdentity{}, fmt.Errorf("%s: %w", file, err)
	}
	id := NodeIdentity{Node: f.Tenant + "/" + f.Node}
	if id.CA, err = pki.ParseCert([]byte(f.CA)); err != nil {
		return NodeIdentity{}, fmt.Errorf("%s: ca: %w", file, err)
	}
	if id.Cert, err = pki.LoadHolder([]byte(f.Cert), []byte(f.Key)); err != nil {
		return NodeIdentity{}, fmt.Errorf("%s: %w", file, err)
	}
	return id, nil
}

// Refresh takes up a renewed certificate.
func (id *NodeIdentity) Refresh(file string) error {
	next, err := ReadNodeIdentity(file)
	if err != nil {
		return err
	}
	if !next.Cert.Leaf().Equal(id.Cert.Leaf()) {
		id.Cert.Replace(next.Cert)
	}
	return nil
}
