// Package sourcetree finds the project's own sources, for what is built from them or lies beside them: guests, and the tools of the tests.
package sourcetree

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Root is the directory of Understudy's go.mod above the working directory, or above the running program.
func Root() (string, error) {
	var starts []string
	if wd, err := os.Getwd(); err == nil {
		starts = append(starts, wd)
	}
	if exe, err := os.Executable(); err == nil {
		starts = append(starts, filepath.Dir(exe))
	}
	for _, start := range starts {
		for dir := start; ; dir = filepath.Dir(dir) {
			b, err := os.ReadFile(filepath.Join(dir, "go.mod"))
			if err == nil && strings.HasPrefix(string(b), "module github.com/understudy-ha/understudy\n") {
				return dir, nil
			}
			if err != nil && !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
				break
			}
		}
	}
	return "", errors.New("Understudy's source tree is not here: run this inside it")
}
