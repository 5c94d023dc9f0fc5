package node

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/envelope"
)

// memberRun is what has happened in one session: its log, what devices have
// received of it, and the members and the owner at the end.
type memberRun struct {
	log   []envelope.Envelope
	got   map[envelope.NodeID][]client.Message
	limit int
	owner envelope.NodeID
	ends  map[string]uint64                   // "name seq" of leaves and kicks that were answered
	whose map[envelope.NodeID]envelope.NodeID // the devices of aliases
}

// device returns who is in the session by a name.
func (r *memberRun) device(name envelope.NodeID) envelope.NodeID {
	if device, alias := r.whose[name]; alias {
		return device
	}
	return name
}

// lateVolatile is how long a message without a number may still come from or to
// a device that is out: what a server has read of a membership is trusted so long.
const lateVolatile = 3 * time.Second

// check returns what is wrong.
func (r *memberRun) check() []string {
	var faults []string
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	type stay struct{ from, until, since, to int64 } // seqs and times
	stays := map[envelope.NodeID][]stay{}
	last := func(n envelope.NodeID) *stay {
		if all := stays[n]; len(all) > 0 {
			return &all[len(all)-1]
		}
		return &stay{until: 1}
	}
	in, owners := 0, 0
	owner := envelope.NodeID("")
	left := map[string]bool{}
	for i, e := range r.log {
		seq := int64(e.Seq)
		s := last(e.SrcNode)
		switch {
		case e.HasType && e.Type == envelope.TypeJoined:
			if s.until == 0 {
				fault("%s joined at %d and was in", e.SrcNode, seq)
			}
			for name := range stays {
				if name != e.SrcNode && r.device(name) == r.device(e.SrcNode) && last(name).until == 0 {
					fault("%s joined at %d and was in as %s", e.SrcNode, seq, name)
				}
			}
			stays[e.SrcNode] = append(stays[e.SrcNode], stay{from: seq, since: e.Timestamp})
			if in++; r.limit > 0 && in > r.limit {
				fault("%d members after %d", in, seq)
			}
			if i == 0 {
				owner = e.SrcNode
			}
		case e.HasType && e.Type == envelope.TypeLeft:
			if s.until != 0 {
				fault("%s left at %d and was out", e.SrcNode, seq)
			}
			in--
			s.until, s.to = seq, e.Timestamp
			left[fmt.Sprint(e.SrcNode, " ", seq)] = true
		case e.HasType && e.Type == envelope.TypeRole && strings.Contains(string(e.Body), `"role":"owner"`):
			owners++
			for n := range stays {
				if strings.Contains(string(e.Body), fmt.Sprintf(`"node_id":%q`, n)) {
					if owner = n; last(n).until != 0 {
						fault("%s became owner at %d and was out", n, seq)
					}
				}
			}
		case !e.HasType && (s.from == 0 || s.until != 0 && e.Timestamp > s.to+lateVolatile.Milliseconds()):
			fault("%s wrote %d and was out", e.SrcNode, seq)
		}
	}
	if r.owner != "" && r.owner != owner {
		fault("the owner is %s; of the log it is %s", r.owner, owner)
	}
	for end := range r.ends {
		if !left[end] {
			fault("answered, and not in the log: %s", end)
		}
	}
	for device, got := range r.got {
		var own []stay // by all its names
		for name, some := range stays {
			if r.device(name) == device {
				own = append(own, some...)
			}
		}
		seen := map[uint64]bool{}
		for _, m := range got {
			in := false
			for _, s := range own {
				if m.Seq == 0 {
					in = in || m.Timestamp >= s.since-lateVolatile.Milliseconds() && (s.until == 0 || m.Timestamp <= s.to+lateVolatile.Milliseconds())
				} else {
					in = in || int64(m.Seq) >= s.from && (s.until == 0 || int64(m.Seq) <= s.until)
				}
			}
			if !in {
				fault("%s received %d of %s at %d outside of its stays", device, m.Seq, m.SrcNode, m.Timestamp)
			}
			if r.device(m.SrcNode) == device && !ousts(&m.Envelope) {
				fault("%s received %d, which is its own", device, m.Seq)
			}
			seen[m.Seq] = true
		}
		for _, e := range r.log {
			for _, s := range own {
				inside := int64(e.Seq) >= s.from && (s.until == 0 || int64(e.Seq) <= s.until)
				if inside && (r.device(e.SrcNode) != device || ousts(&e)) && !seen[e.Seq] {
					fault("%s did not receive %d", device, e.Seq)
				}
			}
		}
	}
	return faults
}

// Devices at three servers join, leave, kick, ban, invite, change roles, hand
// the session over, reveal themselves and send, all at once, now by name and
// now by an alias. Then the log decides whether anybody received what it had no
// right to, and whether a device was in by both.
func TestRandomMembership(t *testing.T) {
	for _, seed := range seeds(t, 3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inMesh(t, 3, func(t *testing.T, m *mesh) {
				const devices, acts, limit = 7, 60, 4
				m.must("d0", "/v1/sessions", fmt.Sprintf(`{"session_id":"r","member_limit":%d}`, limit))
				run := memberRun{
					limit: limit, got: map[envelope.NodeID][]client.Message{}, ends: map[string]uint64{},
					whose: map[envelope.NodeID]envelope.NodeID{},
				}
				var mu sync.Mutex
				did := map[string]int{}
				var all sync.WaitGroup
				connected := map[string]*device{}
				for i := range devices {
					id := fmt.Sprint("d", i)
					connected[id] = m.client(id, string(rune('a'+i%3))).connected(m)
					run.whose[envelope.AliasOf("r", "z-"+id)] = envelope.NodeID(id)
				}
				m.shaky(rand.New(rand.NewPCG(seed, devices)))
				for i := range devices {
					id, rnd := fmt.Sprint("d", i), rand.New(rand.NewPCG(seed, uint64(i)))
					all.Go(func() {
						for n := range acts {
							time.Sleep(time.Duration(rnd.IntN(400)) * time.Millisecond)
							by, at, other := id, m.ids()[rnd.IntN(3)], fmt.Sprint("d", rnd.IntN(devices))
							if rnd.IntN(2) == 0 {
								by = theApp
							}
							name := other // by which it may be in
							if rnd.IntN(2) == 0 {
								name = "r~z-" + other
							}
							path, body := "/v1/sessions/r", fmt.Sprintf(`{"node_id":%q}`, name)
							act := []string{
								"/join", "/join", "/join", "/join", "/leave", "/kick", "/ban", "/unban", "/unban", "/invite", "/add",
								"/role", "/transfer", "send", "send", "send", "volatile", "volatile", "/reveal",
							}[rnd.IntN(19)]
							switch act {
							case "/join":
								if by, body = id, ""; rnd.IntN(2) == 0 {
									body = fmt.Sprintf(`{"alias":"z-%s"}`, id)
								}
							case "/leave", "/reveal":
								by, body = id, ""
							case "/add":
								body = fmt.Sprintf(`{"node_id":%q}`, other)
								if name != other {
									body = fmt.Sprintf(`{"node_id":%q,"alias":"z-%s"}`, other, other)
								}
							case "/role":
								body = fmt.Sprintf(`{"node_id":%q,"role":%q}`, name, []string{"reader", "member", "moderator"}[rnd.IntN(3)])
							case "send", "volatile":
								by, path = id, "/v1/messages"
								body = fmt.Sprintf(`{"id":"%d","dest_session_id":"r","payload":"%s %d"}`, n, id, n)
								if act == "volatile" {
									body = fmt.Sprintf(`{"dest_session_id":"r","class":"volatile","payload":"%s %d"}`, id, n)
								}
							}
							if path != "/v1/messages" {
								path += act
							}
							code, text := m.do(http.MethodPost, by, at, path, body)
							mu.Lock()
							did[act+" "+string(code)]++
							if code == "" && (act == "/kick" || act == "/ban" || act == "/leave") {
								if until := number(text, `"until":`) + number(text, `"seq":`); until > 0 {
									_, name, _ := strings.Cut(text, `"node_id":"`)
									name, _, _ = strings.Cut(name, `"`)
									run.ends[fmt.Sprint(name, " ", until)] = until
								}
							}
							mu.Unlock()
							if code == envelope.Internal {
								t.Errorf("%s: %s", path, text)
							}
						}
					})
				}
				all.Wait()
				m.sound()
				pass(2 * time.Minute) // everything arrives
				for id, d := range connected {
					for _, msg := range d.messages() {
						if msg.DestSession == "r" && msg.DestNode == "" {
							run.got[envelope.NodeID(id)] = append(run.got[envelope.NodeID(id)], msg)
						}
					}
				}
				var err error
				if run.log, err = m.store.Read(t.Context(), room("r"), 0, 10_000, 1<<24); err != nil {
					t.Fatal(err)
				}
				s := m.look(theApp, "r")
				run.owner = envelope.NodeID(s.Owner)
				if strings.Count(s.roles(), " owner") > 1 || len(s.Members) > limit {
					t.Errorf("at the end: %s", s.roles())
				}
				t.Log(len(run.log), "entries,", did)
				for _, fault := range run.check() {
					t.Error(fault)
				}
			})
		})
	}
}

// shaky makes the way to the store slow, and loses some calls and some answers.
func (m *mesh) shaky(rnd *rand.Rand) {
	var mu sync.Mutex
	chance := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return rnd.IntN(n)
	}
	lose := func(op string) error {
		if slices.Contains([]string{"put member", "update session", "member", "put header", "headers"}, op) && chance(25) == 0 {
			return errAway
		}
		return nil
	}
	for _, s := range m.servers {
		s.store.set(func(f *faultyStore) {
			f.delay = func(string) time.Duration { return time.Duration(chance(60)) * time.Millisecond }
			f.before, f.after = lose, lose
		})
	}
}

// sound ends that.
func (m *mesh) sound() {
	for _, s := range m.servers {
		s.store.set(func(f *faultyStore) { f.delay, f.before, f.after = nil, nil, nil })
	}
}

// number returns the number behind a name in a JSON text; 0 when there is none.
func number(text, name string) (n uint64) {
	if _, rest, ok := strings.Cut(text, name); ok {
		_, _ = fmt.Sscan(strings.TrimRight(rest, "}\n"), &n)
	}
	return n
}

// The checker finds what is wrong.
func TestMemberRunCheck(t *testing.T) {
	entry := func(seq uint64, src envelope.NodeID, kind int64, body string) envelope.Envelope {
		return envelope.Envelope{Seq: seq, SrcNode: src, HasType: kind != 0, Type: kind, Timestamp: int64(seq) * 10_000, Body: []byte(body)}
	}
	good := []envelope.Envelope{
		entry(1, "a", envelope.TypeJoined, ""), entry(2, "b", envelope.TypeJoined, ""), entry(3, "a", 0, "x"),
		entry(4, "b", envelope.TypeLeft, ""), entry(5, "a", 0, "y"),
	}
	ousted := append(good[:3:3], entry(4, "b", envelope.TypeLeft, `"payload":{"by":"a","reason":"kicked"}`))
	message := func(seqs ...int) (all []client.Message) {
		for _, i := range seqs {
			all = append(all, client.Message{Envelope: good[i-1]})
		}
		return all
	}
	for name, tt := range map[string]struct {
		run  memberRun
		want string
	}{
		"good":            {memberRun{log: good, limit: 2, owner: "a", got: map[envelope.NodeID][]client.Message{"b": message(3)}}, ""},
		"after a leave":   {memberRun{log: good, got: map[envelope.NodeID][]client.Message{"b": message(3, 5)}}, "received 5"},
		"missing":         {memberRun{log: good, got: map[envelope.NodeID][]client.Message{"b": nil}}, "did not receive 3"},
		"too many":        {memberRun{log: good, limit: 1}, "2 members"},
		"another owner":   {memberRun{log: good, owner: "b"}, "the owner is b"},
		"answered":        {memberRun{log: good, ends: map[string]uint64{"b 3": 3}}, "answered"},
		"written outside": {memberRun{log: append(good[:len(good):len(good)], entry(6, "b", 0, ""))}, "wrote 6"},
		"in by both":      {memberRun{log: good[:2], whose: map[envelope.NodeID]envelope.NodeID{"b": "a"}}, "was in as a"},
		"its own":         {memberRun{log: good, got: map[envelope.NodeID][]client.Message{"a": message(2, 3, 4)}}, "its own"},
		"not told":        {memberRun{log: ousted, got: map[envelope.NodeID][]client.Message{"b": message(3)}}, "did not receive 4"},
		"in twice":        {memberRun{log: append(good[:len(good):len(good)], entry(6, "a", envelope.TypeJoined, ""))}, "was in"},
		"out twice":       {memberRun{log: append(good[:len(good):len(good)], entry(6, "b", envelope.TypeLeft, ""))}, "was out"},
		"owner outside": {memberRun{log: append(good[:len(good):len(good)],
			entry(6, "a", envelope.TypeRole, `"payload":{"node_id":"b","role":"owner"}`))}, "became owner"},
	} {
		got := strings.Join(tt.run.check(), "; ")
		if (tt.want == "") != (got == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}
