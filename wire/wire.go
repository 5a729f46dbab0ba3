// Package wire is what the processes of one cluster say to each other: controllers,
// agents and observers, by gRPC over mutual TLS. wire.proto is the contract; the
// rest is generated from it.
package wire

//go:generate sh generate.sh

// The codes of Applied.
const (
	CodeOK            = "ok"
	CodeStaleTick     = "stale-tick"
	CodeOldEpoch      = "old-epoch"
	CodeOldGeneration = "old-generation"
	CodeOldCluster    = "old-cluster"
	CodeUnproven      = "unproven"
	// CodeWait says that a promise stands: try again.
	CodeWait = "wait"
	// CodeFailed says that the kernel refused, or that the config could not be kept on disk; Detail says which.
	CodeFailed = "failed"
	// CodeInvalid says that the push cannot be understood, and never will be.
	CodeInvalid = "invalid"
)

// ClusterProofPrefix stands before the cluster id in what the CA signs (ECDSA, SHA-256, ASN.1).
const ClusterProofPrefix = "understudy-cluster:"
