package install

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// HostKeys says which keys a machine may show: those in Files, or the one with the Fingerprint ("SHA256:…").
type HostKeys struct {
	Files       []string
	Fingerprint string
}

// UserKnownHosts are the files that ssh itself looks into, as far as they are there.
func UserKnownHosts() (files []string) {
	candidates := []string{"/etc/ssh/ssh_known_hosts"}
	if home, err := os.UserHomeDir(); err == nil {
		candidates = append([]string{filepath.Join(home, ".ssh", "known_hosts")}, candidates...)
	}
	for _, f := range candidates {
		if _, err := os.Stat(f); err == nil {
			files = append(files, f)
		}
	}
	return files
}

// UnknownHost says that a machine's key is not known, or not the one that is.
type UnknownHost struct {
	Host, Fingerprint, Type string
	Changed                 bool // another key is known
}

func (u *UnknownHost) Error() string {
	if u.Changed {
		return fmt.Sprintf("%s shows the %s key %s, which is not the one that is known: somebody may be in between; if the machine was set up anew, "+
			"remove the old key from the known hosts", u.Host, u.Type, u.Fingerprint)
	}
	return fmt.Sprintf("%s shows the %s key %s, which is not known: compare it with what the machine's console says (ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub), "+
		"then give --accept-host-key %s", u.Host, u.Type, u.Fingerprint, u.Fingerprint)
}

// algorithmsOf a key's type, best first.
var algorithmsOf = map[string][]string{
	ssh.KeyAlgoRSA: {ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256},
}

// families of keys, asked one after the other when only a fingerprint is known: a server shows one key a connection.
var families = [][]string{
	{ssh.KeyAlgoED25519},
	{ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521},
	algorithmsOf[ssh.KeyAlgoRSA],
}

// verifier gives the check of a host's key, and the key algorithms to offer, one set a connection attempt.
func (h HostKeys) verifier(address string) (ssh.HostKeyCallback, [][]string, error) {
	if h.Fingerprint != "" {
		return func(host string, _ net.Addr, key ssh.PublicKey) error {
			if got := ssh.FingerprintSHA256(key); got != h.Fingerprint {
				return &UnknownHost{Host: host, Fingerprint: got, Type: key.Type(), Changed: true}
			}
			return nil
		}, families, nil
	}
	known, err := knownhosts.New(h.Files...)
	if err != nil {
		var missing *fs.PathError
		if errors.As(err, &missing) {
			return nil, nil, err
		}
		return nil, nil, fmt.Errorf("known hosts: %w", err)
	}
	check := func(host string, remote net.Addr, key ssh.PublicKey) error {
		err := known(host, remote, key)
		var unknown *knownhosts.KeyError
		if errors.As(err, &unknown) {
			return &UnknownHost{Host: host, Fingerprint: ssh.FingerprintSHA256(key), Type: key.Type(), Changed: len(unknown.Want) > 0}
		}
		return err
	}
	offer, err := knownAlgorithms(known, address)
	return check, [][]string{offer}, err
}

// knownAlgorithms are those of the keys that are known of an address, so that the server shows one of them; nil, any, if none is.
func knownAlgorithms(known ssh.HostKeyCallback, address string) (out []string, err error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	nobodys, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return nil, err
	}
	var unknown *knownhosts.KeyError
	if !errors.As(known(address, &net.TCPAddr{IP: net.IPv4zero}, nobodys.PublicKey()), &unknown) {
		return nil, nil
	}
	for _, w := range unknown.Want {
		if a, ok := algorithmsOf[w.Key.Type()]; ok {
			out = append(out, a...)
		} else {
			out = append(out, w.Key.Type())
		}
	}
	return out, nil
}
