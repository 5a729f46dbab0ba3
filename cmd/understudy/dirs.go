package main

import (
	"os"
	"path/filepath"
)

// defaultDir is where a controller or agent keeps its files: $UNDERSTUDY_DIR, /var/lib/understudy for root, or
// ~/.understudy. Package client looks for client.yaml in the same places.
func defaultDir() string {
	if d := os.Getenv("UNDERSTUDY_DIR"); d != "" {
		return d
	}
	if home, err := os.UserHomeDir(); err == nil && os.Geteuid() != 0 {
		return filepath.Join(home, ".understudy")
	}
	return "/var/lib/understudy"
}

// dirHelp says what defaultDir does; the flag's own default stays empty so that help texts are the same everywhere.
const dirHelp = "(default: $UNDERSTUDY_DIR, or /var/lib/understudy for root, or ~/.understudy)"

func dirOr(dir string) string {
	if dir == "" {
		return defaultDir()
	}
	return dir
}
