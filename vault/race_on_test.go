//go:build race

package vault

// simDefault is how many seeds a plain go test plays; the race detector makes each ten times slower.
const simDefault = 20
