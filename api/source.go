package api

import "embed"

// Source holds this package's own files: the reference of the resources is made from the comments in them.
//
//go:embed *.go
var Source embed.FS
