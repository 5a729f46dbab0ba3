//go:build race

package sim

// raced: the race detector makes everything many times slower, and a world has one goroutine only.
const raced = true
