package notify

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	netmail "net/mail"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/wneessen/go-mail"

	"github.com/understudy-ha/understudy/api"
)

// The values of Mail.StartTLS.
const (
	StartTLSRequired = "required"
	StartTLSOptional = "optional"
)

// Mail sends each event as a mail. One receiver: a server, and whom it passes the mails on to.
type Mail struct {
	// Server is the SMTP server's host:port; 587 is usual for submission.
	Server string `json:"server"`
	// From is the sender's address, like "Understudy <understudy@example.org>".
	From string `json:"from"`
	// To are the receivers' addresses, 1 to 50.
	To []string `json:"to"`
	// StartTLS is required (default): without a TLS that the server's name and certificate fit, nothing is sent; or optional: TLS where
	// the server offers it.
	StartTLS string `json:"startTLS,omitempty"`
	// CAFile holds the PEM of the authorities that the server's certificate is from. Default: the system's.
	CAFile string `json:"caFile,omitempty"`
	// Username and PasswordFile sign in to the server; both or neither, and only with startTLS required. The file holds the password on its first
	// line, and is read for every mail, so that a new password needs no restart.
	Username     string `json:"username,omitempty"`
	PasswordFile string `json:"passwordFile,omitempty"`
	// MinSeverity is Info, Warning or Critical. Default: the notify section's.
	MinSeverity api.Severity `json:"minSeverity,omitempty"`
}

const maxMailReceivers = 50

// Default fills in what was left out. File names that are not absolute are in dir.
func (m *Mail) Default(dir string) {
	setDefault(&m.StartTLS, StartTLSRequired)
	for _, f := range []*string{&m.CAFile, &m.PasswordFile} {
		if *f != "" && !filepath.IsAbs(*f) {
			*f = filepath.Join(dir, *f)
		}
	}
}

// Validate adds what is wrong to bad, under field.
func (m Mail) Validate(field string, bad *api.Invalid) {
	if host, port, err := net.SplitHostPort(m.Server); err != nil || host == "" || !validPort(port) {
		bad.Add(field+".server", m.Server, "host:port, like mail.example.org:587")
	}
	if !address(m.From) {
		bad.Add(field+".from", m.From, "a mail address")
	}
	if len(m.To) < 1 || len(m.To) > maxMailReceivers {
		bad.Add(field+".to", fmt.Sprint(len(m.To)), fmt.Sprintf("1 to %d mail addresses", maxMailReceivers))
	}
	for i, to := range m.To {
		if !address(to) {
			bad.Add(fmt.Sprintf("%s.to[%d]", field, i), to, "a mail address")
		}
	}
	switch m.StartTLS {
	case "", StartTLSRequired:
	case StartTLSOptional:
		if m.Username != "" {
			bad.Add(field+".startTLS", m.StartTLS, "required, because a username and password are sent")
		}
	default:
		bad.Add(field+".startTLS", m.StartTLS, "required or optional")
	}
	if (m.Username == "") != (m.PasswordFile == "") {
		bad.Add(field+".passwordFile", m.PasswordFile, "a file with the password where there is a username, and none where there is none")
	}
	if _, known := rank[m.MinSeverity]; !known && m.MinSeverity != "" {
		bad.Add(field+".minSeverity", string(m.MinSeverity), "Info, Warning or Critical")
	}
}

func validPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}

func address(s string) bool {
	a, err := netmail.ParseAddress(s)
	return err == nil && !strings.ContainsAny(a.Address, "\r\n")
}

// send sends one event, and says how many before it were dropped.
func (m Mail) send(ctx context.Context, event []byte, dropped int64) error {
	msg, err := m.message(event, dropped)
	if err != nil {
		return err
	}
	c, err := m.client()
	if err != nil {
		return err
	}
	return c.DialAndSendWithContext(ctx, msg)
}

func (m Mail) client() (*mail.Client, error) {
	host, port, err := net.SplitHostPort(m.Server)
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return nil, err
	}
	t, err := m.tls(host)
	if err != nil {
		return nil, err
	}
	options := []mail.Option{mail.WithPort(n), mail.WithTLSConfig(t), mail.WithTLSPolicy(mail.TLSMandatory), mail.WithoutNoop()}
	if m.StartTLS == StartTLSOptional {
		options = append(options, mail.WithTLSPolicy(mail.TLSOpportunistic))
	}
	if m.Username != "" {
		password, err := firstLine(m.PasswordFile)
		if err != nil {
			return nil, err
		}
		options = append(options, mail.WithSMTPAuth(mail.SMTPAuthAutoDiscover), mail.WithUsername(m.Username), mail.WithPassword(password))
	}
	return mail.NewClient(host, options...)
}

func (m Mail) tls(host string) (*tls.Config, error) {
	t := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	if m.CAFile == "" {
		return t, nil
	}
	pem, err := os.ReadFile(m.CAFile)
	if err != nil {
		return nil, err
	}
	t.RootCAs = x509.NewCertPool()
	if !t.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: want certificates in PEM", m.CAFile)
	}
	return t, nil
}

func firstLine(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	if line = strings.TrimSuffix(line, "\r"); line == "" {
		return "", fmt.Errorf("%s: want the password on the first line", path)
	}
	return line, nil
}

// message puts an event into words. A try that is repeated makes the same message with the same ID, so that a mailbox can tell.
func (m Mail) message(event []byte, dropped int64) (*mail.Msg, error) {
	var e api.Event
	if err := json.Unmarshal(event, &e); err != nil {
		return nil, err
	}
	msg := mail.NewMsg()
	if err := errors.Join(msg.From(m.From), msg.To(m.To...)); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(event)
	msg.SetMessageIDWithValue(hex.EncodeToString(sum[:16]) + "@understudy.invalid")
	msg.SetGenHeader("Auto-Submitted", "auto-generated") // no out-of-office answers
	if e.Metadata.Created.IsZero() {
		msg.SetDate()
	} else {
		msg.SetDateWithValue(e.Metadata.Created)
	}
	msg.Subject(subject(e))
	msg.SetBodyString(mail.TypeTextPlain, body(e, dropped))
	return msg, nil
}

// maxSubject is how many characters of the message a subject repeats.
const maxSubject = 100

func subject(e api.Event) string {
	text := []rune(strings.Join(strings.FieldsFunc(e.Message, func(r rune) bool { return r < ' ' || r == 0x7f }), " "))
	if len(text) > maxSubject {
		text = append(text[:maxSubject], '…')
	}
	return fmt.Sprintf("[%s] %s: %s", e.Severity, e.Code, string(text))
}

func body(e api.Event, dropped int64) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\nSeverity:  %s\nCode:      %s\n", e.Message, e.Severity, e.Code)
	if e.Regarding != (api.Ref{}) {
		fmt.Fprintf(&b, "Regarding: %s\n", e.Regarding)
	}
	if !e.Metadata.Created.IsZero() {
		fmt.Fprintf(&b, "At:        %s\n", e.Metadata.Created.UTC().Format("2006-01-02 15:04:05 UTC"))
	}
	if dropped > 0 {
		fmt.Fprintf(&b, "\n%d earlier events could not be mailed; \"understudy events\" lists them.\n", dropped)
	}
	return b.String()
}
