//go:build mutants

package sim

import "github.com/understudy-ha/understudy/mutant"

func plant(n mutant.Name) bool {
	mutant.Plant(n)
	return true
}
