package server

import "embed"

// ConfigSource holds the file of Config: the reference of server.yaml is made from the comments in it.
//
//go:embed config.go
var ConfigSource embed.FS
