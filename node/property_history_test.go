package node

import (
	"fmt"
	"sync"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// history is what the devices of a random test, and who looks into the store
// for them, have noted: in the order in which it happened to them.
type history struct {
	mu      sync.Mutex
	events  []event // guarded by mu
	streams int     // guarded by mu; handed out so far
}

// event is one thing noted. Which fields mean something depends on what.
type event struct {
	what   what
	at     time.Time
	device envelope.NodeID
	user   envelope.ClientID           // opened: whose device it is
	stream int                         // opened, got, gapped, settled: the connection, or the client that hides several
	log    envelope.Address            // where the message belongs
	seq    uint64                      // its number; 0 for a volatile one; gapped, trimmed: the floor
	id     string                      // sent, acked, refused: the sender's name for it
	text   string                      // what it says; no two messages say the same
	src    envelope.NodeID             // got: who sent it
	code   envelope.Code               // refused
	from   map[envelope.Address]uint64 // opened: positions behind which delivery begins; absent: a stored one
	pages  []entry                     // audited: the whole log as it is now
}

func (e event) String() string {
	return fmt.Sprintf("%s %s stream %d %v %d %s %q %s %s %v", e.what, e.device, e.stream, e.log, e.seq, e.id, e.text, e.src, e.code, e.from)
}

type what uint8

func (w what) String() string {
	return [...]string{
		"", "sent", "acked", "refused", "opened", "got", "gapped", "handled", "joining", "joined", "left", "settled", "stuck", "trimmed", "audited",
	}[w]
}

const (
	evSent    what = iota + 1 // a message is given to a server, for the first time or again
	evAcked                   // it was acknowledged
	evRefused                 // it was refused for good
	evOpened                  // a stream begins
	evGot                     // a message arrived
	evGapped                  // the device was told that what is before a floor is gone
	evHandled                 // the device is about to acknowledge a log up to seq
	evJoining                 // the device asks to be let into a session
	evJoined                  // it was let in
	evLeft                    // its leave was acknowledged
	evSettled                 // nothing is broken any more and everything has had its time to arrive
	evStuck                   // something that must succeed some time has not
	evTrimmed                 // the store is about to forget what is before a floor
	evAudited                 // somebody read the whole log
)

// entry is one entry of a log as an audit saw it.
type entry struct {
	seq     uint64
	src     envelope.NodeID
	text    string
	stamp   int64
	kind    int64 // envelope.TypeJoined, envelope.TypeLeft, or 0 for a message
	expires int64 // Unix milliseconds; 0 never
}

func (h *history) note(e event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e.at = time.Now()
	h.events = append(h.events, e)
}

// stream returns a number for a new stream.
func (h *history) stream() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.streams++
	return h.streams
}

func (h *history) all() []event {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.events
}

// entryOf returns what an audit notes of an envelope.
func entryOf(e *envelope.Envelope) entry {
	x := entry{seq: e.Seq, src: sender(e), text: said(e), stamp: e.Timestamp}
	if e.HasType {
		x.kind = e.Type
	}
	if e.TTL > 0 {
		x.expires = e.Timestamp + int64(e.TTL)*1000
	}
	return x
}

// masked reports whether a device is anonymous in a room, by an alias that has
// the device's id for its name.
func masked(id envelope.NodeID, room envelope.SessionID) bool {
	return (id[len(id)-1]+room[len(room)-1])%2 == 0
}

// sender returns the device that a message is from, which is not the one that it
// says where that has another name.
func sender(e *envelope.Envelope) envelope.NodeID {
	if e.DestSession == "" || e.SrcNode == "owner" {
		return e.SrcNode
	}
	_, name, alias := e.SrcNode.Alias()
	id := envelope.NodeID(name)
	switch {
	case alias && masked(id, e.DestSession) && e.SrcClient == "":
		return id
	case !alias && !masked(e.SrcNode, e.DestSession):
		return e.SrcNode
	}
	return e.SrcNode + " of " + envelope.NodeID(e.SrcClient) + ", in disguise"
}

// said returns what a message says; that of the server says who came or went.
func said(e *envelope.Envelope) string {
	if e.HasType {
		return map[int64]string{envelope.TypeJoined: "+", envelope.TypeLeft: "-"}[e.Type] + string(sender(e))
	}
	return text(*e)
}
