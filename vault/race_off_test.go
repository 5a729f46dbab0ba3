//go:build !race

package vault

// simDefault is how many seeds a plain go test plays.
const simDefault = 200
