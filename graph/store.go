// Package graph knows which servers there are and which addresses each of them
// can reach: gossip membership, leases, connection edges and routes.
package graph

import (
	"context"
	"errors"

	"github.com/allsparkrt/allspark/envelope"
)

// Record is what a server says of itself in the store. It is also its lease:
// the server writes it anew with a higher Beat every few seconds, and others
// count it as alive while they see Beat advance on their own monotonic clocks.
type Record struct {
	ID       envelope.ServerID
	Boot     string // random, new for each start of the process and after a freeze
	Beat     uint64 // rises with every renewal
	Addr     string // host:port of the client listener, one server each
	URL      string // for clients, http://… or https://…
	ProxyURL string // for clients that reach only 80/443; "" without a proxy
	PeerURL  string // for peer links, ws://… or wss://…
	Gossip   string // host:port, a seed for joining
	Zone     string
	Load     int // open connections
	MaxLoad  int // its limit of connections
	Draining bool
	Links    []envelope.ServerID // the servers it has a peer link to
	Revivals uint64              // times that this boot was taken for dead and was not, as others have told it
}

// Edge says that an address can be reached at a server. A store holds at most
// one per address and server. It counts only while the lease of its Boot lives.
type Edge struct {
	Addr   envelope.Address
	Server envelope.ServerID
	Boot   string
	Gen    uint64 // rises with each edge that a boot writes
	Conn   string // connection id of a device; "" for users and sessions
}

// Sighting is when a device or user was last connected, as far as noted.
type Sighting struct {
	Addr envelope.Address
	At   int64 // Unix milliseconds
}

// ErrListen means that the port of gossip cannot be had.
var ErrListen = errors.New("graph: gossip cannot listen")

// Errors of [Store].Claim and Renew.
var (
	// ErrRecordExists means that there is a record under that id.
	ErrRecordExists = errors.New("graph: a server record with that id exists")
	// ErrTakenOver means that the record is no longer of the boot named.
	ErrTakenOver = errors.New("graph: the server record belongs to another process")
)

// Store keeps server records and edges. Package storetest holds its promises
// as tests. All methods are safe for concurrent use. Writes need not survive a
// loss of power, but are seen by every later read.
type Store interface {
	// Claim creates the record. With prev == "" there must be none with its
	// ID, else ErrRecordExists; with prev given, the record stored must be of
	// that Boot, and is replaced, else ErrTakenOver.
	Claim(ctx context.Context, r Record, prev string) error
	// Renew replaces the record with the same ID and Boot, else ErrTakenOver.
	Renew(ctx context.Context, r Record) error
	// Release deletes the record with that id and boot, if it is there.
	Release(ctx context.Context, id envelope.ServerID, boot string) error
	// Servers returns all records, of living servers or not.
	Servers(ctx context.Context) ([]Record, error)

	// PutEdges writes edges; one with the same Addr and Server is replaced.
	PutEdges(ctx context.Context, edges []Edge) error
	// DeleteEdges deletes edges where Addr, Server, Boot and Gen are all equal.
	DeleteEdges(ctx context.Context, edges []Edge) error
	// Edges returns the edges of some addresses, in any order.
	Edges(ctx context.Context, addrs ...envelope.Address) ([]Edge, error)
	// PutSightings notes when addresses were last connected. A time that is not
	// ahead of the one stored changes nothing. It may be lazy about durability.
	PutSightings(ctx context.Context, sightings []Sighting) error

	// Sightings returns those of some addresses; the ones never seen are absent.
	Sightings(ctx context.Context, addrs ...envelope.Address) ([]Sighting, error)

	// EdgesOf returns all edges that a boot of a server has written, in any order.
	EdgesOf(ctx context.Context, id envelope.ServerID, boot string) ([]Edge, error)

	// DropEdges deletes all edges that a boot of a server has written.
	DropEdges(ctx context.Context, id envelope.ServerID, boot string) error
}
