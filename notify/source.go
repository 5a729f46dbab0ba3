package notify

import "embed"

// MailSource holds the file of Mail, for the reference.
//
//go:embed mail.go
var MailSource embed.FS
