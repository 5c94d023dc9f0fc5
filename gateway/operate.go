package gateway

import (
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// What operators ask for; to everybody but the app these commands are
// [envelope.Forbidden].
type (
	// DrainServer has a server leave the mesh in peace, as the end of its process
	// does: it says where else to go, waits for its clients and ends. One that is
	// leaving goes on with it. The reply is [Draining], when the server has begun;
	// Busy when it does not say so in time.
	DrainServer struct{ Server envelope.ServerID }

	// GetMesh asks for the living servers, and each of these how it is. One that
	// does not answer within a second has no Health. The reply is [Mesh].
	GetMesh struct{}
)

func (DrainServer) command() {}
func (GetMesh) command()     {}

type (
	// Draining answers [DrainServer].
	Draining struct {
		Server envelope.ServerID
		Boot   string // that is to end; another one would be the server after a new start
	}

	// Mesh answers [GetMesh].
	Mesh struct{ Servers []MeshServer }
	// MeshServer is a living server as it has described itself last.
	MeshServer struct {
		ID             envelope.ServerID
		Boot           string
		URL, ProxyURL  string
		Zone           string
		Load, MaxLoad  int // connections
		Draining, Self bool
		Links          []envelope.ServerID // to the servers it has a link to
		Age            time.Duration       // since the server asked has seen a sign of life in its record
		Health         *Health             // nil: it did not answer
	}
	// Health is what a server says of itself when it is asked.
	Health struct {
		RoundTrip  time.Duration // of the question, by way of others where there is no link
		Ahead      time.Duration // of its wall clock before that of the server asked, give or take half of RoundTrip
		StoreWrite time.Duration // what the last write of its record to the store has taken
		Waiting    int           // frames that wait to be written to clients
		Longest    int           // and how many of these for one client
		Behind     int           // clients that are sent what they have missed
		Links      []LinkHealth  // in the order of the servers' ids
	}
	// LinkHealth is how a link to another server is, seen from one end.
	LinkHealth struct {
		Server    envelope.ServerID
		RoundTrip time.Duration // of the last sign of life that was answered, waiting in queues included; 0: none yet
		Records   int           // that wait to be sent
		Bytes     int           // that these take
	}
)

func (Draining) event() {}
func (Mesh) event()     {}
