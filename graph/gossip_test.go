package graph

import (
	"bytes"
	"net"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/allsparkrt/allspark/envelope"
)

// A draining server is known at once, and a new server before the next poll.
func TestGossipIsFasterThanPolling(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, network := newMemStore(), newMemNet()
		a := start(t, "a", store, network, nil)
		time.Sleep(settle)
		a.store.setAway(true) // only gossip is left
		b := start(t, "b", store, network, nil)
		time.Sleep(500 * time.Millisecond)
		if !a.sees("a", "b") {
			t.Fatalf("a sees %v", a.Servers())
		}
		b.SetDraining(true)
		time.Sleep(500 * time.Millisecond)
		r := a.Servers()[1]
		want := b.Self()
		if !r.Draining || r.Boot != want.Boot || r.URL != want.URL || r.PeerURL != want.PeerURL || r.Zone != want.Zone || r.MaxLoad != want.MaxLoad {
			t.Errorf("a knows %+v, want %+v", r, want)
		}
	})
}

// After a partition that gossip has forgotten, the store's records bring the
// islands together again; while it lasts, nobody is dead who is in touch with
// the store.
func TestRejoinAfterPartition(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, network := newMemStore(), newMemNet()
		a := start(t, "a", store, network, nil)
		b := start(t, "b", store, network, nil)
		c := start(t, "c", store, network, nil)
		time.Sleep(settle)
		network.cut(c.host.addr.String(), 1)
		time.Sleep(10 * time.Minute)
		if a.knows("c") || c.knows("a") || !a.knows("b") {
			t.Fatal("gossip did not notice the partition")
		}
		if !a.sees("a", "b", "c") || !c.sees("a", "b", "c") {
			t.Fatal("gossip has declared somebody dead")
		}
		before := a.Stats().Rejoins + c.Stats().Rejoins
		network.cut(c.host.addr.String(), 0)
		healed := time.Now()
		for !a.knows("c") || !b.knows("c") || !c.knows("a") || !c.knows("b") {
			time.Sleep(100 * time.Millisecond)
			if time.Since(healed) > 30*time.Second {
				t.Fatal("gossip did not rejoin")
			}
		}
		if a.Stats().Rejoins+b.Stats().Rejoins+c.Stats().Rejoins == before {
			t.Error("they were never apart")
		}
		c.SetDraining(true)
		a.store.setAway(true)
		time.Sleep(time.Second)
		if !a.Servers()[2].Draining {
			t.Error("gossip does not flow")
		}
	})
}

// With the store away, the configured seeds do the same.
func TestRejoinBySeeds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, network := newMemStore(), newMemNet()
		a := start(t, "a", store, network, nil)
		other := newMemStore() // as good as a store that is away
		b := start(t, "b", other, network, func(c *Config) {
			c.Gossip.Join = []string{a.host.addr.String()}
		})
		if !b.knows("a") {
			t.Fatal("the seed was not joined")
		}
		network.cut(b.host.addr.String(), 1)
		time.Sleep(10 * time.Minute)
		if b.knows("a") {
			t.Fatal("gossip did not notice the partition")
		}
		network.cut(b.host.addr.String(), 0)
		time.Sleep(30 * time.Second)
		if !b.knows("a") || !a.knows("b") {
			t.Error("not joined again")
		}
	})
}

func (s *server) knows(id string) bool {
	s.gossip.mu.Lock()
	defer s.gossip.mu.Unlock()
	return s.gossip.members[id] != ""
}

func TestStrangersAreKeptOut(t *testing.T) {
	for _, tt := range []struct {
		name string
		edit func(*GossipConfig)
		in   bool
	}{
		{"same key and label", func(*GossipConfig) {}, true},
		{"no key", func(c *GossipConfig) { c.Key = nil }, false},
		{"wrong key", func(c *GossipConfig) { c.Key = []byte("guess") }, false},
		{"wrong label", func(c *GossipConfig) { c.Label = "other" }, false},
		{"no label", func(c *GossipConfig) { c.Label = "" }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				network := newMemNet()
				a := start(t, "a", newMemStore(), network, nil)
				// The stranger has no access to the store.
				x := start(t, "x", newMemStore(), network, func(c *Config) {
					c.Gossip.Join = []string{a.host.addr.String()}
					tt.edit(&c.Gossip)
				})
				time.Sleep(settle)
				if a.knows("x") != tt.in || a.sees("a", "x") != tt.in || x.knows("a") != tt.in {
					t.Errorf("a sees %v, x sees %v", a.Servers(), x.Servers())
				}
				// A boot id that the store never confirms does not last.
				time.Sleep(20 * time.Second)
				if !a.sees("a") {
					t.Errorf("a sees %v", a.Servers())
				}
			})
		})
	}
}

// Nothing of what is gossiped can be read on the wire.
func TestGossipIsEncrypted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, network := newMemStore(), newMemNet()
		network.spy = true
		a := start(t, "alpha", store, network, nil)
		start(t, "beta", store, network, nil)
		time.Sleep(settle)
		a.SetDraining(true)
		time.Sleep(settle)
		network.mu.Lock()
		defer network.mu.Unlock()
		if len(network.sent) < 5 {
			t.Fatalf("%d packets seen", len(network.sent))
		}
		for _, packet := range network.sent {
			for _, word := range []string{"alpha", "beta", a.Boot()} {
				if bytes.Contains(packet, []byte(word)) {
					t.Fatalf("%q in a packet", word)
				}
			}
		}
	})
}

// Packets that are damaged, and members whose metadata is, change nothing.
func TestMalformedGossip(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, network := newMemStore(), newMemNet()
		a := start(t, "a", store, network, nil)
		b := start(t, "b", store, network, nil)
		time.Sleep(settle)
		stranger := network.host()
		for i := range 256 {
			for _, body := range []string{"", "x", strings.Repeat("\xff", 1400), "\xf4\x04test\x01" + strings.Repeat("z", 60)} {
				if _, err := stranger.WriteTo(append([]byte{byte(i)}, body...), a.host.addr.String()); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(10 * time.Millisecond)
		}
		d := (*delegate)(a.gossip)
		for _, meta := range [][]byte{nil, {}, {1}, {9, 0}, bytes.Repeat([]byte{0xff}, 512)} {
			d.NotifyUpdate(&memberlist.Node{Name: "m", Addr: net.IPv4(10, 0, 0, 99), Meta: meta})
		}
		d.NotifyUpdate(&memberlist.Node{Name: "no such$id", Addr: net.IPv4(10, 0, 0, 99), Meta: b.gossip.meta})
		time.Sleep(settle)
		if !a.sees("a", "b") || !b.sees("a", "b") || a.Stats().BadMeta != 6 {
			t.Errorf("a sees %v, %d bad", a.Servers(), a.Stats().BadMeta)
		}
	})
}

// A member that calls itself like a living server is neither believed nor
// does it push that one out.
func TestNameTakeover(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, network := newMemStore(), newMemNet()
		a := start(t, "a", store, network, nil)
		b := start(t, "b", store, network, nil)
		time.Sleep(settle)
		start(t, "b", newMemStore(), network, func(c *Config) {
			c.Gossip.Join = []string{a.host.addr.String()}
			c.Self.PeerURL = "ws://evil/peer"
		})
		time.Sleep(20 * time.Second)
		if r := a.Servers()[1]; r.Boot != b.Boot() || r.PeerURL != "ws://b/peer" || !a.Alive("b", b.Boot()) {
			t.Errorf("a knows %+v", r)
		}
		if a.Stats().Conflicts == 0 {
			t.Error("the conflict was not counted")
		}
	})
}

func TestManyBoots(t *testing.T) {
	v := newView("a", 8*time.Second)
	for i := range 2 * maxLeases {
		v.gossip(Record{ID: "b", Boot: strconv.Itoa(i), Beat: 1}, false)
	}
	if len(v.leases) != maxLeases {
		t.Errorf("%d leases", len(v.leases))
	}
}

func TestPortTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	store := newMemStore()
	c := testConfig("a", store, nil)
	c.Gossip.Transport = nil
	c.Gossip.BindAddr = "127.0.0.1"
	c.Gossip.BindPort = l.Addr().(*net.TCPAddr).Port
	_, err = Start(t.Context(), c)
	if err == nil || !strings.Contains(err.Error(), l.Addr().String()) {
		t.Fatalf("err = %v", err)
	}
	if len(store.records) != 0 {
		t.Error("the record was claimed nevertheless")
	}
}

// Two servers over UDP and TCP on the loopback interface, in real time.
func TestRealNetwork(t *testing.T) {
	store := newMemStore()
	began := make(chan struct{}, 16)
	var graphs []*Graph
	for _, id := range []string{"a", "b"} {
		c := testConfig(id, store.handle(), nil)
		c.Gossip.Transport = nil
		c.Gossip.BindAddr = "127.0.0.1"
		c.OnServers = func() { signal(began) }
		g, err := Start(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(g.Close)
		go func() { _ = g.Run(t.Context()) }()
		graphs = append(graphs, g)
	}
	for len(graphs[0].Servers()) < 2 || len(graphs[1].Servers()) < 2 {
		select {
		case <-began:
		case <-time.After(10 * time.Second):
			t.Fatalf("they did not meet: %v, %v", graphs[0].Servers(), graphs[1].Servers())
		}
	}
	if err := graphs[1].Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	for len(graphs[0].Servers()) > 1 {
		select {
		case <-began:
		case <-time.After(10 * time.Second):
			t.Fatal("the leave was not noticed")
		}
	}
}

func TestMeta(t *testing.T) {
	r := testConfig("a", nil, nil).Self
	r.Boot, r.Beat, r.Load, r.Draining = newBoot(), 1<<40, 7, true
	for _, leaving := range []bool{false, true} {
		b, err := appendMeta(nil, r, leaving)
		if err != nil {
			t.Fatal(err)
		}
		got, gone, err := parseMeta("a", b)
		if err != nil || gone != leaving || !reflect.DeepEqual(got, r) {
			t.Errorf("%+v, %v, %v", got, gone, err)
		}
		for n := range b {
			if _, _, err := parseMeta("a", b[:n]); err == nil {
				t.Errorf("the first %d bytes were taken", n)
			}
		}
		if _, _, err := parseMeta("a", append(b, 0)); err == nil {
			t.Error("a trailing byte was taken")
		}
	}
	for _, bad := range []func(*Record){
		func(r *Record) { r.Boot = "" },
		func(r *Record) { r.Boot = "$" },
		func(r *Record) { r.URL = "file:///etc/passwd" },
		func(r *Record) { r.URL = "javascript:1" },
		func(r *Record) { r.ProxyURL = "http://" },
		func(r *Record) { r.PeerURL = "http://b" },
		func(r *Record) { r.PeerURL = "ws://user:secret@b" },
		func(r *Record) { r.PeerURL = "ws://b\r\nX: y" },
	} {
		r := r
		bad(&r)
		b, err := appendMeta(nil, r, false)
		if err != nil {
			t.Fatal(err)
		}
		if got, _, err := parseMeta("a", b); err == nil {
			t.Errorf("taken: %+v", got)
		}
	}
	r.URL = "http://" + strings.Repeat("a", 512)
	if _, err := appendMeta(nil, r, false); err == nil {
		t.Error("oversized metadata was made")
	}
}

func FuzzMeta(f *testing.F) {
	r := testConfig("a", nil, nil).Self
	r.Boot, r.Beat = "boot", 300
	for _, leaving := range []bool{false, true} {
		b, err := appendMeta(nil, r, leaving)
		if err != nil {
			f.Fatal(err)
		}
		f.Add("a", b)
	}
	f.Add("", []byte{metaVersion})
	f.Add("a", bytes.Repeat([]byte{0xff}, 20))
	f.Fuzz(func(t *testing.T, name string, b []byte) {
		r, leaving, err := parseMeta(name, b)
		if err != nil {
			if !reflect.DeepEqual(r, Record{}) || leaving {
				t.Fatalf("%+v with an error", r)
			}
			return
		}
		if !validRecord(r) || r.Load < 0 || r.MaxLoad < 0 || string(r.ID) != name {
			t.Fatalf("bad record %+v", r)
		}
		again, err := appendMeta(nil, r, leaving)
		if err != nil {
			t.Fatal(err)
		}
		r2, leaving2, err := parseMeta(name, again)
		if err != nil || leaving2 != leaving || !reflect.DeepEqual(r, r2) {
			t.Fatalf("%+v became %+v, %v", r, r2, err)
		}
	})
}

func TestNextHop(t *testing.T) {
	rec := func(id string, links ...envelope.ServerID) Record {
		return Record{ID: envelope.ServerID(id), Links: links}
	}
	for _, tt := range []struct {
		name    string
		records []Record // sorted, without self, which is "a"
		linked  string   // ids
		want    envelope.ServerID
	}{
		{"direct", []Record{rec("b"), rec("z")}, "z", "z"},
		{"one hop", []Record{rec("b", "z"), rec("z")}, "b", "b"},
		{"link recorded by the other end", []Record{rec("b"), rec("z", "b")}, "b", "b"},
		{"lowest id of equal paths", []Record{rec("b", "z"), rec("c", "z"), rec("z")}, "cb", "b"},
		{"shortest wins over lowest", []Record{rec("b", "d"), rec("c", "z"), rec("d", "z"), rec("z")}, "bc", "c"},
		{"two hops", []Record{rec("b", "c"), rec("c", "z"), rec("z")}, "b", "b"},
		{"not through self", []Record{rec("b", "a"), rec("z", "a")}, "b", ""},
		{"not through the dead", []Record{rec("b", "x"), rec("z", "x")}, "b", ""},
		{"no path", []Record{rec("b"), rec("z")}, "b", ""},
		{"no links", []Record{rec("b", "z"), rec("z")}, "", ""},
		{"destination unknown", []Record{rec("b", "z")}, "b", ""},
		{"cycle", []Record{rec("b", "c"), rec("c", "b", "d"), rec("d", "b", "z"), rec("z")}, "b", "b"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for range 5 {
				got, ok := nextHop(tt.records, "a", "z", func(id envelope.ServerID) bool {
					return strings.Contains(tt.linked, string(id))
				})
				if got != tt.want || ok != (tt.want != "") {
					t.Fatalf("%q, %v", got, ok)
				}
			}
		})
	}
}

func TestNextHopOfRecordedLinks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store, network := newMemStore(), newMemNet()
		a := start(t, "a", store, network, nil)
		b := start(t, "b", store, network, nil)
		start(t, "c", store, network, nil)
		b.mu.Lock()
		b.links = []envelope.ServerID{"a", "c"}
		b.mu.Unlock()
		time.Sleep(5 * time.Second)
		hop, ok := a.NextHop("c", func(id envelope.ServerID) bool { return id == "b" })
		if hop != "b" || !ok {
			t.Errorf("%q, %v", hop, ok)
		}
	})
}
