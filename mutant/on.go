//go:build mutants

// Package mutant plants known defects into the product, so that the simulator can
// show that it would find them. This is the build that has them (tag mutants).
package mutant

import "sync/atomic"

var planted atomic.Value // Name

// On tells whether the named defect is planted.
func On(n Name) bool {
	p, _ := planted.Load().(Name)
	return p == n && n != ""
}

// Plant plants one defect for the whole process; "" removes it.
func Plant(n Name) { planted.Store(n) }
