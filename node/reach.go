package node

import (
	"context"
	"encoding/binary"
	"maps"
	"sync"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
)

// askWithin bounds the wait for what other servers say of their connections.
const askWithin = time.Second

// reach is how far a message has got at a server: the devices connected there
// that follow its log, and whether it was written to each one's socket.
type reach map[envelope.NodeID]bool

// reachHere returns how far the entry of a log has got on this server.
func (n *Node) reachHere(log envelope.Address, seq uint64) reach {
	here := make(reach)
	n.conns.eachFollower(log, func(f *follow) {
		if len(here) < maxTraced {
			if name, written := f.wrote(seq); name != "" {
				here[name] = written
			}
		}
	})
	return here
}

// wrote reports whether an entry of the log, if it is for the client, is on its way to it
// and no longer here, and the name by which its device is known as a reader; ""
// when it has that no longer, and so nobody is to know that it follows the log.
// While other frames wait it is not known, and said not to be.
func (f *follow) wrote(seq uint64) (name envelope.NodeID, written bool) {
	c := f.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.gone {
		return "", false
	}
	reader := f.reader(f.log, seq, c.who)
	if !f.still(f.log, reader, c.who) {
		return "", false
	}
	return reader.Node, f.started && f.sent >= seq && !c.flushing && c.lane.count() == 0
}

// inquiries are the questions that this server has asked others.
type inquiries struct {
	reach  questions[reach]
	health questions[gateway.Health]
	drain  questions[struct{}]
}

// questions are those that have yet to be answered, each with an A.
type questions[A any] struct {
	mu   sync.Mutex
	last uint64              // guarded by mu
	open map[uint64]chan<- A // guarded by mu
}

// reachOf asks servers how far an entry has got there. One that does not
// answer in time has nothing to say.
func (n *Node) reachOf(ctx context.Context, servers []envelope.ServerID, log envelope.Address, seq uint64) map[envelope.ServerID]reach {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	all := make(map[envelope.ServerID]reach, len(servers))
	answers := make(map[envelope.ServerID]<-chan reach, len(servers))
	for _, id := range servers {
		if id == n.cfg.Graph.Self.ID {
			all[id] = n.reachHere(log, seq)
			continue
		}
		number, answer := n.questions.reach.ask()
		defer n.questions.reach.take(number)
		answers[id] = answer
		body := binary.AppendUvarint(nil, number)
		n.peers.send(id, recordReach, binary.AppendUvarint(envelope.AppendAddress(body, log), seq))
	}
	for id, answer := range answers {
		select {
		case r := <-answer:
			all[id] = r
		case <-ctx.Done(): // others may have answered
			select {
			case r := <-answer:
				all[id] = r
			default:
			}
		}
	}
	return all
}

func (q *questions[A]) ask() (number uint64, answer <-chan A) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.last++
	if q.open == nil {
		q.open = make(map[uint64]chan<- A)
	}
	ch := make(chan A, 1) // so that an answer never waits for who asked
	q.open[q.last] = ch
	return q.last, ch
}

// take returns where the answer to a question goes, once, or nil.
func (q *questions[A]) take(number uint64) chan<- A {
	q.mu.Lock()
	defer q.mu.Unlock()
	ch := q.open[number]
	delete(q.open, number)
	return ch
}

// answer hands an answer to who asked, if it still waits.
func (q *questions[A]) answer(number uint64, with A) {
	if ch := q.take(number); ch != nil {
		ch <- with
	}
}

// reachBody is the answer to a question of another server.
func reachBody(number uint64, here reach) []byte {
	body := binary.AppendUvarint(nil, number)
	for node, written := range maps.All(here) {
		flag := byte(0)
		if written {
			flag = 1
		}
		body = append(envelope.AppendString(body, string(node)), flag)
	}
	return body
}

// reached takes such an answer.
func (n *Node) reached(r *envelope.Reader) {
	number, there := r.Uvarint(), make(reach)
	for r.Err() == nil && len(r.Rest()) > 0 {
		node := envelope.NodeID(r.String())
		there[node] = r.Byte() == 1
	}
	if r.Err() == nil {
		n.questions.reach.answer(number, there)
	}
}
