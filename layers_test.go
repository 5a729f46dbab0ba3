// Package understudy_test holds the rules of the house that span packages.
package understudy_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/understudy-ha/understudy/"

// floors of the house: a package imports lower floors only. Subpackages stand on their parent's floor and may import it.
var floors = map[string]int{
	"api": 0, "clock": 0, "mutant": 0, "freeport": 0, "sourcetree": 0,
	"health": 1, "lead": 1, "job": 1, "retain": 1,
	"store": 2, "objstore": 2, "wire": 2, "probe": 2, "notify": 2, "hostnet": 2, "cloud": 2, "pki": 2, "client": 2, "journal": 2,
	"hypervisor": 2, "nbd": 2, "install": 2,
	"capture": 3, "replication": 3, "vault": 3, "volume": 3,
	"appliance": 4, "recovery": 4, "steward": 4, "engines": 4,
	"controller": 5, "agent": 5,
	"server": 6, "lab": 6, "sim": 6,
	"cmd": 7,
}

// exceptions to the floors, each with its reason.
var exceptions = map[string]string{
	"lead store": "the election's documents are store entries; only the store's nouns are used, no implementation",
	"client pki": "a client trusts the cluster's CA and may show a certificate; both are pki's",
}

// pure packages decide; the outside world is handed to them.
var pure = []string{"api", "health", "lead", "job", "retain", "appliance", "recovery", "steward", "controller"}

// forbidden imports of pure packages, each with its reason.
var forbidden = map[string]string{
	"net/http":     "pure packages open no connections",
	"os":           "pure packages touch no files",
	"os/exec":      "pure packages run nothing",
	"sync":         "pure packages are driven by one goroutine",
	"math/rand":    "pure packages are handed their randomness",
	"math/rand/v2": "pure packages are handed their randomness",
	"context":      "pure packages do not wait",
	"log":          "pure packages answer; they do not log",
	"log/slog":     "pure packages answer; they do not log",
}

type source struct {
	dir  string // from the module's root
	file *ast.File
	name string
}

func sources(t *testing.T) []source {
	t.Helper()
	var out []source
	fset := token.NewFileSet()
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && strings.HasPrefix(d.Name(), ".") && p != "." {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(p, ".go") || strings.HasSuffix(p, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(fset, p, nil, 0)
		if err != nil {
			return err
		}
		out = append(out, source{dir: filepath.ToSlash(filepath.Dir(p)), file: f, name: p})
		return nil
	})
	if err != nil || len(out) < 20 {
		t.Fatalf("read %d files: %v", len(out), err)
	}
	return out
}

func top(dir string) string { return strings.SplitN(dir, "/", 2)[0] }

func TestPackagesImportLowerFloorsOnly(t *testing.T) {
	for _, s := range sources(t) {
		from := top(s.dir)
		floor, known := floors[from]
		if !known {
			t.Errorf("%s: package %s has no floor", s.name, from)
			continue
		}
		for _, imp := range s.file.Imports {
			p, _ := strconv.Unquote(imp.Path.Value)
			to, ours := strings.CutPrefix(p, module)
			if !ours || top(to) == from {
				continue
			}
			if other, ok := floors[top(to)]; !ok || other >= floor && exceptions[from+" "+top(to)] == "" {
				t.Errorf("%s: floor %d imports %s on floor %d", s.name, floor, to, other)
			}
		}
	}
}

func TestPurePackagesStayPure(t *testing.T) {
	for _, s := range sources(t) {
		isPure := false
		for _, p := range pure {
			isPure = isPure || s.dir == p
		}
		if !isPure {
			continue
		}
		for _, imp := range s.file.Imports {
			p, _ := strconv.Unquote(imp.Path.Value)
			if why := forbidden[p]; why != "" {
				t.Errorf("%s imports %s: %s", s.name, p, why)
			}
		}
		calls(s.file, func(pkg, fn string) {
			if pkg == "time" && (fn == "Now" || fn == "Since" || fn == "Sleep" || fn == "After") {
				t.Errorf("%s calls time.%s: pure packages are handed the time", s.name, fn)
			}
		})
	}
}

func TestOnlyMainEndsTheProcess(t *testing.T) {
	for _, s := range sources(t) {
		calls(s.file, func(pkg, fn string) {
			if pkg == "os" && fn == "Exit" && top(s.dir) != "cmd" {
				t.Errorf("%s calls os.Exit: only main turns errors into exit codes", s.name)
			}
		})
	}
}

// calls reports every call of the form pkg.Fn(…) where pkg is an imported package.
func calls(f *ast.File, see func(pkg, fn string)) {
	imported := map[string]bool{}
	for _, imp := range f.Imports {
		p, _ := strconv.Unquote(imp.Path.Value)
		if imp.Name == nil {
			imported[path.Base(p)] = true
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if c, ok := n.(*ast.CallExpr); ok {
			if sel, ok := c.Fun.(*ast.SelectorExpr); ok {
				if id, ok := sel.X.(*ast.Ident); ok && imported[id.Name] {
					see(id.Name, sel.Sel.Name)
				}
			}
		}
		return true
	})
}
