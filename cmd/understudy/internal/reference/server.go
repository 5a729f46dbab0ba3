package reference

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

const serverIntro = `# server.yaml

What a controller is told, in the file server.yaml of its directory (` + "`understudy server --dir`" + `); flags go over it, and a controller reads
it when it starts. This page is written by ` + "`understudy docs`" + ` from the comments in package server.

Everything has a default. Unknown fields are refused. A controller that mails what is critical, for instance, needs no more than:

` + "```yaml" + `
notify:
  minSeverity: Warning
  webhooks: ["https://chat.example.org/hook"]
  mail:
  - {server: "mail.example.org:587", from: understudy@example.org, to: [ops@example.org], username: understudy, passwordFile: mail.password, minSeverity: Critical}
` + "```" + `

`

// Server writes the page about server.yaml: the type Config of the last package that has one.
func Server(packages ...fs.FS) (string, error) {
	m, err := Load(packages...)
	if err != nil {
		return "", err
	}
	top := m.Structs["Config"]
	if top == nil {
		return "", errors.New("reference: there is no type Config")
	}
	var b strings.Builder
	b.WriteString(serverIntro)
	for _, s := range m.reach([]string{top.Name}, map[string]bool{}) {
		if s != top {
			fmt.Fprintf(&b, "\n## %s\n\n%s\n\n", s.Name, s.Doc)
		}
		b.WriteString(m.table(s))
	}
	return b.String(), nil
}
