package node

import (
	"fmt"
	"testing"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway/native"
)

// BenchmarkPresenceAsked asks about as many users as one question may have,
// half of them connected to another server.
func BenchmarkPresenceAsked(b *testing.B) {
	m := newMesh(b, 2, nil, false)
	defer m.close()
	clients := make([]envelope.ClientID, maxPresence)
	var there []envelope.Address
	for i := range clients {
		clients[i] = envelope.ClientID(fmt.Sprint("user-", i))
		if i%2 == 0 {
			there = append(there, clients[i].Address())
		}
	}
	if _, err := m.at("b").graph.Attach(b.Context(), "conn", there); err != nil {
		b.Fatal(err)
	}
	var online int
	for b.Loop() {
		of, err := m.at("a").presence(b.Context(), clients)
		if err != nil {
			b.Fatal(err)
		}
		online = 0
		for _, p := range of {
			if p.Online {
				online++
			}
		}
	}
	if online != len(there) {
		b.Errorf("%d are online", online)
	}
}

// BenchmarkPresenceTold tells 10,000 connections of one server that a user has
// left.
func BenchmarkPresenceTold(b *testing.B) {
	m := newMesh(b, 1, nil, false)
	defer m.close()
	n := m.at("a").Node
	bob := &watch{state: envelope.Presence{Client: "bob"}}
	n.watchers.watches["bob"] = bob
	for range 10_000 {
		c := &conn{n: n, codec: native.NewCodec(false), writing: true, lane: lane{free: &n.laneMemory}} // nobody writes: the lane is what is measured
		c.who.Node = "reader"
		c.follows.Put(&follow{log: c.who.Node.Address(), stays: noStays, started: true})
		bob.readers.Put(reader{c, toldOnline})
	}
	clients := []envelope.ClientID{"bob"}
	for b.Loop() {
		b.StopTimer()
		bob.looked, bob.state = 1, envelope.Presence{Client: "bob", Online: true}
		for r := range bob.readers.All() {
			bob.readers.Put(reader{r.c, toldOnline})
			r.c.lane.take()
		}
		b.StartTimer()
		if err := n.watchers.look(b.Context(), clients, lookNow); err != nil {
			b.Fatal(err)
		}
	}
	for r := range bob.readers.All() {
		if r.was != toldOffline {
			b.Fatal("a reader was not told")
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*bob.readers.Len()), "ns/reader")
	delete(n.watchers.watches, "bob")
}
