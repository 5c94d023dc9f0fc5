package storetest

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/graph"
	"github.com/allsparkrt/allspark/inbox"
	"github.com/allsparkrt/allspark/session"
)

// model is a store as simple as it can be: what the random test compares with.
type model struct {
	logs      map[envelope.Address]*modelLog
	cursors   map[[2]envelope.Address]inbox.Cursor
	records   map[envelope.ServerID]graph.Record
	edges     map[string]graph.Edge
	sightings map[envelope.Address]graph.Sighting
	sessions  map[envelope.SessionID]session.Session
	members   map[[2]envelope.Address]session.Member
}

func (m *model) advance(c inbox.Cursor) {
	key := [2]envelope.Address{c.Node.Address(), c.Log}
	was := m.cursors[key]
	c.Delivered, c.Read = max(c.Delivered, was.Delivered), max(c.Read, was.Read)
	m.cursors[key] = c
}

func edgeKey(e graph.Edge) string { return string(e.Server) + " " + e.Addr.String() }

// values returns the values of rows that keep says yes to.
func values[K comparable, V any](rows map[K]V, keep func(V) bool) []V {
	var all []V
	for _, v := range rows {
		if keep(v) {
			all = append(all, v)
		}
	}
	return all
}

// random does a few hundred random things and compares each answer with the
// model's. The names are few, so that they meet.
func random(s *suite) {
	seed := s.Seed
	if seed == 0 {
		seed = rand.Uint64()
	}
	s.Logf("seed %d", seed)
	w := &walk{
		suite: s,
		rnd:   rand.New(rand.NewPCG(seed, 1)),
		model: model{
			logs:      map[envelope.Address]*modelLog{},
			cursors:   map[[2]envelope.Address]inbox.Cursor{},
			records:   map[envelope.ServerID]graph.Record{},
			edges:     map[string]graph.Edge{},
			sightings: map[envelope.Address]graph.Sighting{},
			sessions:  map[envelope.SessionID]session.Session{},
			members:   map[[2]envelope.Address]session.Member{},
		},
	}
	steps := []func(){
		w.append, w.append, w.append, w.burst, w.readPage, w.heads, w.revisionsOfOne,
		w.trim, w.extent, w.findOne, w.allLogs, w.readersOf, w.putSighting, w.allSightings,
		w.advance, w.advance, w.cursorsOf, w.claim, w.renew, w.release, w.allServers,
		w.putEdges, w.deleteEdges, w.dropEdges, w.edgesOf,
		w.create, w.updateSession, w.putMember, w.putMember, w.memberOf, w.allMembers,
	}
	for i := range 400 {
		if s.Reopen != nil && i%100 == 99 {
			s.reopen()
		}
		steps[w.rnd.IntN(len(steps))]()
	}
	for _, log := range w.addresses() {
		s.holds(s.store, log, w.model.log(log).left())
	}
}

// walk is one random test under way.
type walk struct {
	*suite
	rnd   *rand.Rand
	model model
	clock int64 // milliseconds
}

func (w *walk) addresses() []envelope.Address {
	return []envelope.Address{bob.Address(), envelope.ClientID(bob).Address(), envelope.SessionID("room").Address()}
}

func one[T any](w *walk, of ...T) T               { return of[w.rnd.IntN(len(of))] }
func (w *walk) log() envelope.Address             { return one(w, w.addresses()...) }
func (w *walk) node() envelope.NodeID             { return one(w, alice, bob, "carol_tablet") }
func (w *walk) room() envelope.SessionID          { return one[envelope.SessionID](w, "room", "room.2") }
func (w *walk) boot() string                      { return one(w, "boot1", "boot2") }
func (w *walk) server() envelope.ServerID         { return one[envelope.ServerID](w, "s", "s.2") }
func (w *walk) number(below int) uint64           { return w.rnd.Uint64N(uint64(below)) }
func all[T any](T) bool                           { return true }
func (w *walk) expect(op string, got, want error) { w.Helper(); w.isError(op, got, want) }

func (w *walk) advance() {
	var cursors []inbox.Cursor
	for range 1 + w.rnd.IntN(3) {
		c := inbox.Cursor{Node: w.node(), Log: w.log(), Delivered: 1 + w.number(20), Read: w.number(20)}
		cursors = append(cursors, c)
		w.model.advance(c)
	}
	w.noError(w.store.Advance(w.Context(), cursors))
}

func (w *walk) cursorsOf() {
	node := w.node()
	w.cursors(node, values(w.model.cursors, func(c inbox.Cursor) bool { return c.Node == node })...)
}

func (w *walk) record() graph.Record {
	return graph.Record{ID: w.server(), Boot: w.boot(), Beat: w.number(100), Load: w.rnd.IntN(9)}
}

func (w *walk) claim() {
	r, prev := w.record(), one(w, "", "boot1", "boot2")
	was, there := w.model.records[r.ID]
	var want error
	switch {
	case prev == "" && there:
		want = graph.ErrRecordExists
	case prev != "" && was.Boot != prev:
		want = graph.ErrTakenOver
	default:
		w.model.records[r.ID] = r
	}
	w.expect("Claim", w.store.Claim(w.Context(), r, prev), want)
}

func (w *walk) renew() {
	r := w.record()
	var want error = graph.ErrTakenOver
	if w.model.records[r.ID].Boot == r.Boot {
		want = nil
		w.model.records[r.ID] = r
	}
	w.expect("Renew", w.store.Renew(w.Context(), r), want)
}

func (w *walk) release() {
	r := w.record()
	if w.model.records[r.ID].Boot == r.Boot {
		delete(w.model.records, r.ID)
	}
	w.noError(w.store.Release(w.Context(), r.ID, r.Boot))
}

func (w *walk) allServers() { w.servers(values(w.model.records, all)...) }

func (w *walk) edge() graph.Edge {
	return graph.Edge{
		Addr: w.log(), Server: w.server(), Boot: w.boot(), Gen: 1 + w.number(3), Conn: one(w, "", "conn"),
	}
}

func (w *walk) putEdges() {
	e := w.edge()
	w.model.edges[edgeKey(e)] = e
	w.noError(w.store.PutEdges(w.Context(), []graph.Edge{e}))
}

func (w *walk) deleteEdges() {
	list := []graph.Edge{w.edge(), w.edge(), w.edge()}
	for _, e := range list {
		if was := w.model.edges[edgeKey(e)]; was.Boot == e.Boot && was.Gen == e.Gen {
			delete(w.model.edges, edgeKey(e))
		}
	}
	w.noError(w.store.DeleteEdges(w.Context(), list))
}

func (w *walk) dropEdges() {
	server, boot := w.server(), w.boot()
	for key, e := range w.model.edges {
		if e.Server == server && e.Boot == boot {
			delete(w.model.edges, key)
		}
	}
	w.noError(w.store.DropEdges(w.Context(), server, boot))
}

func (w *walk) edgesOf() {
	log := w.log()
	w.edges(log, values(w.model.edges, func(e graph.Edge) bool { return e.Addr == log })...)
}

func (w *walk) create() {
	room := session.Session{ID: w.room(), Owner: w.node(), Created: int64(w.number(1000)), Token: fmt.Sprint(w.number(1000))}
	var want error
	if _, there := w.model.sessions[room.ID]; there {
		want = session.ErrExists
	} else {
		w.model.sessions[room.ID] = room
	}
	w.expect("Create", w.store.Create(w.Context(), room), want)
	got, err := w.store.Session(w.Context(), room.ID)
	w.noError(err)
	w.equal("session", got, w.model.sessions[room.ID])
}

func (w *walk) updateSession() {
	id := w.room()
	room, there := w.model.sessions[id]
	room.ID, room.Owner, room.MemberLimit = id, w.node(), int(w.number(100))
	was := room.Version
	room.Version += one[uint64](w, 1, 1, 1, 2)
	var want error = session.ErrChanged
	if there && room.Version == was+1 {
		want = nil
		w.model.sessions[id] = room
	}
	w.expect("UpdateSession", w.store.UpdateSession(w.Context(), room), want)
}

func memberKey(id envelope.SessionID, node envelope.NodeID) [2]envelope.Address {
	return [2]envelope.Address{id.Address(), node.Address()}
}

func (w *walk) putMember() {
	device := w.node()
	m := session.Member{
		Session: w.room(), Node: device, Device: device, Client: "c", State: session.State(1 + w.rnd.IntN(8)), Role: session.Role(w.rnd.IntN(3)),
		Op: fmt.Sprint(w.number(100)), Spans: []session.Span{{From: 1 + w.number(100)}},
	}
	if w.rnd.IntN(3) == 0 {
		m.Node = envelope.AliasOf(m.Session, "z"+string(device))
	}
	key := memberKey(m.Session, m.Node)
	was := w.model.members[key].Version
	m.Version = was + one[uint64](w, 1, 1, 1, 0, 2)
	var want error = session.ErrChanged
	if m.Version == was+1 {
		want = nil
		w.model.members[key] = m
	}
	w.expect("PutMember", w.store.PutMember(w.Context(), m), want)
}

func (w *walk) memberOf() {
	id, node := w.room(), w.node()
	want, there := w.model.members[memberKey(id, node)]
	if there {
		w.member(want)
		return
	}
	_, err := w.store.Member(w.Context(), id, node)
	w.expect("Member", err, session.ErrNotFound)
}

func (w *walk) allMembers() {
	id, node := w.room(), w.node()
	got, err := w.store.Members(w.Context(), id)
	w.noError(err)
	want := values(w.model.members, func(m session.Member) bool { return m.Session == id })
	w.equal("members", plainAll(got), plainAll(want))
	got, err = w.store.Memberships(w.Context(), node)
	w.noError(err)
	want = slices.DeleteFunc(values(w.model.members, all), func(m session.Member) bool { return m.Device != node })
	w.equal("memberships", plainAll(got), plainAll(want))
}
