// Package azure moves public addresses and routes through Azure Resource Manager (ARM).
//
// Planner turns a move into one write per route table, one detach per losing NIC
// and one attach per winning NIC. Routes never wait for addresses; an attach waits
// for the detaches of its addresses; one NIC takes one write at a time.
//
// Driver carries steps out. Each is read, compare, write, wait, read back: a step
// that already holds writes nothing, and after a crash or an answer that got lost
// reading settles what happened. A write is a read-modify-write of the whole
// resource that keeps every field it does not know.
//
// # Fencing
//
// ARM has no fencing token. What there is narrows the window and does not close it:
//
//   - Route tables and NICs get the tag "understudy-epoch" with the value
//     "clusterID/epoch/generation/scope". A tag with a higher epoch makes Do give
//     cloud.ErrStale; so does a higher generation of the same cluster, epoch and scope. Scope is
//     a hash of what the step moves, since several groups may own routes of one table
//     and count their generations apart.
//   - Each write carries If-Match with the etag that was read. ARM answers 412 when
//     somebody wrote since; then everything is read and compared again. For these
//     two types ARM does so in practice, its documentation does not promise it.
//
// A step that finds everything in place writes nothing, so it leaves an older tag.
package azure

import "time"

// How long ARM takes, from published figures: routes 6–7 s on the new control plane
// and up to 60 s on the old one (F5 CFE sizing tables); one NIC write about a minute
// (Azure's own guidance gives 1–2 minutes for the detach and attach) and 8 minutes
// in field reports; whole moves up to 20 minutes.
const (
	ExpectedRouteTableWrite = 7 * time.Second
	WorstRouteTableWrite    = 60 * time.Second
	DeadlineRouteTableWrite = 5 * time.Minute
	ExpectedNICWrite        = 60 * time.Second
	WorstNICWrite           = 480 * time.Second
	DeadlineNICWrite        = 20 * time.Minute
)

// The versions of the ARM API that are spoken. Pinned, because a version fixes the
// fields that a read gives and a write therefore keeps.
const (
	networkVersion       = "2024-05-01"
	authorizationVersion = "2022-04-01"
)

// DefaultEndpoint of ARM.
const DefaultEndpoint = "https://management.azure.com"
