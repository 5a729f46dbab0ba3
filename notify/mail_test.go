package notify_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"mime"
	"net"
	netmail "net/mail"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/notify"
)

const (
	mailUser     = "understudy"
	mailPassword = "s3cret, geheim"
)

// post is an SMTP server. It refuses the first refusals mails for a while, and takes none while hold is open.
type post struct {
	addr, ca, password string // files' names
	got                chan received
	hold               chan struct{}
	open               bool // takes mail from who has not signed in
	mu                 sync.Mutex
	refusals           int
	tried              []string // message IDs
}

type received struct {
	from string
	to   []string
	tls  bool
	user string
	msg  *netmail.Message
	body string
}

// servePost starts a server with a certificate for 127.0.0.1, or without any.
func servePost(t *testing.T, p *post, withTLS bool) *post {
	t.Helper()
	dir := t.TempDir()
	p.got = make(chan received, 100)
	srv := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) { return &session{p: p, c: c}, nil }))
	srv.Domain, srv.ReadTimeout, srv.WriteTimeout = "mail.test", 10*time.Second, 10*time.Second
	if withTLS {
		cert, ca := certificate(t)
		srv.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}}
		p.ca = filepath.Join(dir, "ca.pem")
		write(t, p.ca, ca)
	}
	p.password = filepath.Join(dir, "password")
	write(t, p.password, []byte(mailPassword+"\n"))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.addr = l.Addr().String()
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close(); <-done })
	return p
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func certificate(t *testing.T) (tls.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// session is one connection to a post.
type session struct {
	p  *post
	c  *smtp.Conn
	in received
}

func (s *session) AuthMechanisms() []string { return []string{sasl.Plain} }

func (s *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if user != mailUser || password != mailPassword {
			return smtp.ErrAuthFailed
		}
		s.in.user = user
		return nil
	}), nil
}

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	if s.in.user == "" && !s.p.open {
		return smtp.ErrAuthRequired
	}
	s.in.from = from
	return nil
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.in.to = append(s.in.to, to)
	return nil
}

func (s *session) Data(r io.Reader) error {
	if s.p.hold != nil {
		<-s.p.hold
	}
	raw, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if s.in.msg, err = netmail.ReadMessage(bytes.NewReader(raw)); err != nil {
		return err
	}
	b, err := io.ReadAll(s.in.msg.Body)
	if err != nil {
		return err
	}
	s.in.body = string(b)
	_, s.in.tls = s.c.TLSConnectionState()
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.p.tried = append(s.p.tried, s.in.msg.Header.Get("Message-Id"))
	if s.p.refusals > 0 {
		s.p.refusals--
		return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "later"}
	}
	s.p.got <- s.in
	return nil
}

func (s *session) Reset()        { s.in.from, s.in.to = "", nil }
func (s *session) Logout() error { return nil }

func (p *post) mail() notify.Mail {
	return notify.Mail{Server: p.addr, From: "Understudy <understudy@example.org>", To: []string{"a@example.org", "Ü <b@example.org>"},
		CAFile: p.ca, Username: mailUser, PasswordFile: p.password}
}

func next(t *testing.T, p *post) received {
	t.Helper()
	select {
	case r := <-p.got:
		return r
	case <-time.After(30 * time.Second):
		t.Fatal("no mail in 30 s")
	}
	return received{}
}

func TestMailArrives(t *testing.T) {
	p := servePost(t, &post{}, true)
	n := notify.New(notify.Config{Mail: []notify.Mail{p.mail()}, Timeout: 20 * time.Second})
	defer n.Close()
	at := time.Date(2026, 3, 1, 4, 5, 6, 0, time.UTC)
	e := event("RPOAboveThreshold", api.Critical)
	e.Message, e.Regarding = "Prüfmaschine „web“:\r\nBcc: c@example.org", api.Ref{Kind: "ProtectedMachine", Tenant: "default", Name: "web"}
	e.Metadata.Created = at
	n.Tell(e)
	got := next(t, p)
	subject, err := new(mime.WordDecoder).DecodeHeader(got.msg.Header.Get("Subject"))
	if want := "[Critical] RPOAboveThreshold: Prüfmaschine „web“: Bcc: c@example.org"; err != nil || subject != want {
		t.Errorf("subject %q, %v, want %q", subject, err, want)
	}
	date, err := got.msg.Header.Date()
	if err != nil || !date.Equal(at) || got.msg.Header.Get("Bcc") != "" || got.msg.Header.Get("Auto-Submitted") != "auto-generated" {
		t.Errorf("headers %v, %v", got.msg.Header, err)
	}
	if !got.tls || got.user != mailUser || got.from != "understudy@example.org" || strings.Join(got.to, " ") != "a@example.org b@example.org" {
		t.Errorf("came by %+v", got)
	}
	for _, want := range []string{"Severity:  Critical", "Regarding: ProtectedMachine/default/web", "2026-03-01 04:05:06 UTC"} {
		if !strings.Contains(got.body, want) {
			t.Errorf("body without %q:\n%s", want, got.body)
		}
	}
	if strings.Contains(got.body, "earlier events") {
		t.Errorf("nothing was dropped:\n%s", got.body)
	}
}

func TestMailIsTriedAgainAsTheSameMessage(t *testing.T) {
	p := servePost(t, &post{refusals: 2}, true)
	n := notify.New(notify.Config{Mail: []notify.Mail{p.mail()}, Pause: time.Millisecond, Timeout: 20 * time.Second})
	defer n.Close()
	n.Tell(event("MemberDown", api.Critical))
	next(t, p)
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.tried) != 3 || p.tried[0] != p.tried[1] || p.tried[1] != p.tried[2] || p.tried[0] == "" {
		t.Errorf("message IDs %q, want one, thrice", p.tried)
	}
}

func TestMailSaysHowManyWereDropped(t *testing.T) {
	p := servePost(t, &post{hold: make(chan struct{})}, true)
	var dropped sync.WaitGroup
	dropped.Add(7)
	n := notify.New(notify.Config{Mail: []notify.Mail{p.mail()}, Queue: 2, Timeout: 20 * time.Second, Dropped: func(string, string) { dropped.Done() }})
	defer n.Close()
	n.Tell(event("E0", api.Critical))
	time.Sleep(50 * time.Millisecond) // it is usually taken from the queue by now; if not it is dropped instead of another
	for range 9 {
		n.Tell(event("E", api.Critical)) // never waits, though the server does not answer
	}
	dropped.Wait()
	close(p.hold)
	lines := 0
	for range 3 {
		if got := next(t, p); strings.Contains(got.body, "7 earlier events could not be mailed") {
			lines++
		}
	}
	if lines != 1 {
		t.Errorf("%d mails say that 7 were dropped, want one", lines)
	}
}

func TestMailGoesNowhereUnsafe(t *testing.T) {
	for _, c := range []struct {
		name   string
		tls    bool
		change func(*notify.Mail)
		want   string
	}{
		{"no TLS offered", false, func(m *notify.Mail) { m.CAFile = "" }, "STARTTLS"},
		{"a certificate of somebody", true, func(m *notify.Mail) { m.CAFile = "" }, "certificate"},
		{"wrong password", true, func(m *notify.Mail) { m.Username = "somebody" }, "uthentication"},
		{"no password file", true, func(m *notify.Mail) { m.PasswordFile += "x" }, "no such file"},
	} {
		p := servePost(t, &post{open: true}, c.tls)
		m := p.mail()
		c.change(&m)
		why := make(chan string, 1)
		n := notify.New(notify.Config{Mail: []notify.Mail{m}, Tries: 1, Timeout: 20 * time.Second, Dropped: func(_, w string) { why <- w }})
		n.Tell(event("A", api.Critical))
		select {
		case w := <-why:
			if !strings.Contains(w, c.want) || strings.Contains(w, "s3cret") {
				t.Errorf("%s: %q, want %q", c.name, w, c.want)
			}
		case <-time.After(30 * time.Second):
			t.Errorf("%s: nothing was said", c.name)
		}
		n.Close()
		if len(p.got) != 0 {
			t.Errorf("%s: a mail went out", c.name)
		}
	}
}

func TestMailWithoutTLSWhereThatIsAllowed(t *testing.T) {
	p := servePost(t, &post{open: true}, false)
	m := p.mail()
	m.StartTLS, m.Username, m.PasswordFile, m.CAFile, m.MinSeverity = notify.StartTLSOptional, "", "", "", api.Critical
	n := notify.New(notify.Config{Mail: []notify.Mail{m}, MinSeverity: api.Info, Timeout: 20 * time.Second})
	defer n.Close()
	n.Tell(event("Quiet", api.Warning)) // below the mail's own severity
	n.Tell(event("Loud", api.Critical))
	if got := next(t, p); got.tls || !strings.Contains(got.msg.Header.Get("Subject"), "Loud") {
		t.Errorf("got %+v", got)
	}
}

func TestMailRefusals(t *testing.T) {
	good := notify.Mail{Server: "mail.example.org:587", From: "a@example.org", To: []string{"b@example.org"}}
	for field, change := range map[string]func(*notify.Mail){
		"":                    func(*notify.Mail) {},
		"m.server":            func(m *notify.Mail) { m.Server = "mail.example.org" },
		"m.from":              func(m *notify.Mail) { m.From = "nobody" },
		"m.to":                func(m *notify.Mail) { m.To = nil },
		"m.to[0]":             func(m *notify.Mail) { m.To = []string{"x y"} },
		"m.startTLS":          func(m *notify.Mail) { m.StartTLS = "never" },
		"m.passwordFile":      func(m *notify.Mail) { m.Username = "u" },
		"m.minSeverity":       func(m *notify.Mail) { m.MinSeverity = "Loud" },
		"m.startTLS required": func(m *notify.Mail) { m.StartTLS, m.Username, m.PasswordFile = "optional", "u", "f" },
	} {
		m := good
		change(&m)
		var bad api.Invalid
		m.Validate("m", &bad)
		want, _, _ := strings.Cut(field, " ")
		if want == "" && len(bad.Fields) != 0 || want != "" && (len(bad.Fields) != 1 || bad.Fields[0].Field != want) {
			t.Errorf("%q: %v", field, errors.Unwrap(bad.Err()))
		}
	}
	m := notify.Mail{CAFile: "ca.pem", PasswordFile: "/etc/password"}
	m.Default("/var/lib/understudy")
	if m.CAFile != "/var/lib/understudy/ca.pem" || m.PasswordFile != "/etc/password" || m.StartTLS != notify.StartTLSRequired {
		t.Errorf("defaults %+v", m)
	}
}
