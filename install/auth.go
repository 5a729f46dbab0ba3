package install

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// Login says how to prove who logs in.
type Login struct {
	// IdentityFile is a private key; "" takes those of ssh-agent (SSH_AUTH_SOCK), then ~/.ssh/id_ed25519, id_ecdsa and id_rsa.
	IdentityFile string
	// Prompt asks a person for a secret; nil if nobody is there to be asked: then keys with a passphrase and passwords are of no use.
	Prompt func(question string) (string, error)
}

// methods to log in with, best first. Close what they need after the connection is made.
func (l Login) methods(who string) (methods []ssh.AuthMethod, done io.Closer, err error) {
	var signers []ssh.Signer
	var closer io.Closer = io.NopCloser(nil)
	if l.IdentityFile != "" {
		s, err := l.readKey(l.IdentityFile)
		if err != nil {
			return nil, nil, err
		}
		signers = append(signers, s)
	} else {
		var held []ssh.Signer
		if held, closer, err = agentKeys(); err != nil {
			return nil, nil, err
		}
		signers = append(held, l.ownKeys()...)
	}
	if len(signers) > 0 {
		methods = append(methods, ssh.PublicKeys(signers...))
	}
	if l.Prompt != nil && l.IdentityFile == "" {
		methods = append(methods, ssh.PasswordCallback(func() (string, error) { return l.Prompt("Password of " + who) }),
			ssh.KeyboardInteractive(func(_, _ string, questions []string, _ []bool) (answers []string, err error) {
				for _, q := range questions {
					a, err := l.Prompt(q)
					if err != nil {
						return nil, err
					}
					answers = append(answers, a)
				}
				return answers, nil
			}))
	}
	if len(methods) == 0 {
		return nil, nil, errors.Join(errors.New("no key to log in with: want --identity-file, a key in ssh-agent or in ~/.ssh"), closer.Close())
	}
	return methods, closer, nil
}

// readKey reads a private key, asking for its passphrase if it has one.
func (l Login) readKey(path string) (ssh.Signer, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	s, err := ssh.ParsePrivateKey(b)
	var locked *ssh.PassphraseMissingError
	if errors.As(err, &locked) {
		if l.Prompt == nil {
			return nil, fmt.Errorf("%s has a passphrase and nobody is there to be asked: want a terminal, or the key in ssh-agent", path)
		}
		secret, perr := l.Prompt("Passphrase of " + path)
		if perr != nil {
			return nil, perr
		}
		s, err = ssh.ParsePrivateKeyWithPassphrase(b, []byte(secret))
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// ownKeys are the usual keys of the user that need no passphrase.
func (l Login) ownKeys() (signers []ssh.Signer) {
	home, err := os.UserHomeDir()
	if err != nil {
		return nil
	}
	for _, name := range []string{"id_ed25519", "id_ecdsa", "id_rsa"} {
		if s, err := (Login{}).readKey(filepath.Join(home, ".ssh", name)); err == nil {
			signers = append(signers, s)
		}
	}
	return signers
}

// agentKeys are those that ssh-agent holds, if one runs.
func agentKeys() ([]ssh.Signer, io.Closer, error) {
	socket := os.Getenv("SSH_AUTH_SOCK")
	if socket == "" {
		return nil, io.NopCloser(nil), nil
	}
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return nil, io.NopCloser(nil), nil // one that is gone has no keys; the others may do
	}
	signers, err := agent.NewClient(conn).Signers()
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("ssh-agent: %w", err), conn.Close())
	}
	return signers, conn, nil
}
