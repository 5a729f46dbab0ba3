package install

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/understudy-ha/understudy/api"
)

// dialTime bounds connecting and logging in, people's typing aside.
const dialTime = 20 * time.Second

// Address of a machine: USER@HOST[:PORT]. ssh's own configuration files are not read.
type Address struct {
	User, Host string // Host with its port
}

// ParseAddress reads USER@HOST[:PORT].
func ParseAddress(text string) (a Address, err error) {
	user, host, ok := strings.Cut(text, "@")
	if i := strings.LastIndex(text, "@"); ok {
		user, host = text[:i], text[i+1:]
	}
	if !ok || user == "" || host == "" || strings.HasPrefix(host, ":") {
		var bad api.Invalid
		bad.Add("--host", text, `USER@HOST[:PORT], like "root@10.0.9.4"`)
		return a, bad.Err()
	}
	if _, _, err := net.SplitHostPort(host); err != nil {
		host = net.JoinHostPort(strings.Trim(host, "[]"), "22")
	}
	return Address{User: user, Host: host}, nil
}

func (a Address) String() string { return a.User + "@" + a.Host }

// Remote is a machine over SSH; it implements Runner. Safe for use by one goroutine at a time.
type Remote struct{ client *ssh.Client }

// Dial connects and logs in. Without a key of the machine's that is known it does not: the error is an *UnknownHost.
func Dial(ctx context.Context, a Address, keys HostKeys, login Login) (*Remote, error) {
	verify, attempts, err := keys.verifier(a.Host)
	if err != nil {
		return nil, err
	}
	methods, closer, err := login.methods(a.String())
	if err != nil {
		return nil, err
	}
	defer closer.Close()
	var refused *UnknownHost
	for _, algorithms := range attempts {
		cfg := &ssh.ClientConfig{User: a.User, Auth: methods, HostKeyCallback: verify, HostKeyAlgorithms: algorithms, Timeout: dialTime}
		var r *Remote
		if r, err = dial(ctx, a, cfg); err == nil {
			return r, nil
		}
		var cannot *ssh.AlgorithmNegotiationError
		if !errors.As(err, &refused) && !errors.As(err, &cannot) {
			break
		}
	}
	if refused != nil {
		err = refused
	}
	return nil, fmt.Errorf("connect to %s: %w", a, err)
}

func dial(ctx context.Context, a Address, cfg *ssh.ClientConfig) (*Remote, error) {
	conn, err := (&net.Dialer{Timeout: dialTime, KeepAlive: 15 * time.Second}).DialContext(ctx, "tcp", a.Host)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	c, channels, requests, err := ssh.NewClientConn(conn, a.Host, cfg)
	if err != nil {
		return nil, errors.Join(err, ignoreClosed(conn.Close()))
	}
	return &Remote{ssh.NewClient(c, channels, requests)}, nil
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Run implements Runner. A context that ends breaks the session off; what it began on the machine may go on.
func (r *Remote) Run(ctx context.Context, command string, stdin io.Reader) (string, error) {
	s, err := r.client.NewSession()
	if err != nil {
		return "", err
	}
	defer s.Close()
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	var out, complaint strings.Builder
	s.Stdin, s.Stdout, s.Stderr = stdin, &out, &complaint
	err = s.Run(command)
	if ctx.Err() != nil {
		err = errors.Join(ctx.Err(), err)
	}
	return out.String(), complain(err, complaint.String())
}

// Close ends the connection.
func (r *Remote) Close() error { return r.client.Close() }
