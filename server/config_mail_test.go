package server_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/server"
)

func TestMailInServerYAML(t *testing.T) {
	dir := t.TempDir()
	load := func(text string) (server.Config, error) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "server.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := server.LoadConfig(dir)
		if err != nil {
			t.Fatal(err)
		}
		c.Default(dir)
		return c, c.Validate()
	}
	c, err := load(`notify:
  mail:
  - server: mail.example.org:587
    from: Understudy <understudy@example.org>
    to: [ops@example.org]
    username: understudy
    passwordFile: mail-password
    minSeverity: Critical
`)
	if err != nil || len(c.Notify.Mail) != 1 {
		t.Fatalf("%+v, %v", c.Notify, err)
	}
	if m := c.Notify.Mail[0]; m.StartTLS != "required" || m.PasswordFile != filepath.Join(dir, "mail-password") {
		t.Errorf("defaults %+v", m)
	}
	_, err = load("notify:\n  mail:\n  - server: mail.example.org\n    from: a@example.org\n    to: [b@example.org]\n")
	var bad *api.Invalid
	if !errors.As(err, &bad) || len(bad.Fields) != 1 || bad.Fields[0].Field != "notify.mail[0].server" {
		t.Errorf("got %v", err)
	}
}
