// Package nbd serves disks over the Network Block Device protocol, and speaks to servers of it.
//
//	disk ─► Backend ─► Export ─► Server ═══ unix or TCP, TLS if wanted ═══► QEMU, nbdcopy, the kernel, Client
//
// The protocol is the fixed newstyle of the NBD project's doc/proto.md ("The NBD protocol"), with structured replies, the metadata
// context base:allocation and TLS; section names in this package's comments are that document's. A connection is served in two
// phases: the handshake (handshake.go) chooses an export, transmission (session.go) carries requests to its Backend.
//
// A connection is one goroutine: it reads into one large buffer, hands payloads to the Backend where they lie, and sends replies
// together when no further request is at hand. Only exports that say that they block get workers (workers.go).
//
// A Client is a Backend too, so a disk can be passed on or copied; a Reconnecting one outlives kill -9 of its server.
package nbd
