package node

import (
	"encoding/json"
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
	"github.com/allsparkrt/allspark/session"
)

// gameRun is what has happened in a game: besides what memberRun knows, who was
// its first master, who is it at the end, and what devices find in the history
// then.
type gameRun struct {
	memberRun
	first, last envelope.NodeID
	reads       map[envelope.NodeID][]uint64
}

// term is the time that somebody was the master, by the log: from an entry to
// another one, and by their time stamps.
type term struct {
	name         envelope.NodeID
	from, until  uint64
	since, ended int64
}

func (r *gameRun) terms() []term {
	all := []term{{name: r.first}}
	for i := range r.log {
		if name, ok := session.NewMaster(&r.log[i]); ok {
			end := &all[len(all)-1]
			end.until, end.ended = r.log[i].Seq, r.log[i].Timestamp
			all = append(all, term{name: name, from: r.log[i].Seq, since: r.log[i].Timestamp})
		}
	}
	end := &all[len(all)-1]
	end.until, end.ended = 1<<62, 1<<62
	return all
}

// check returns what is wrong with who was the master, and who got what.
func (r *gameRun) check() []string {
	var faults []string
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	terms := r.terms()
	late := lateVolatile.Milliseconds() // so long a server may believe in the one before
	around := func(at int64, is func(name envelope.NodeID) bool) bool {
		return slices.ContainsFunc(terms, func(t term) bool { return is(t.name) && t.since-late <= at && at <= t.ended+late })
	}
	for _, e := range r.log {
		same := func(name envelope.NodeID) bool { return name == e.SrcNode }
		other := func(name envelope.NodeID) bool { return name != e.SrcNode }
		switch {
		case e.HasType:
		case !e.ForMaster && !around(e.Timestamp, same):
			fault("%d of %s is for all, and it was not the master", e.Seq, e.SrcNode)
		case e.ForMaster && !around(e.Timestamp, other):
			fault("%d of %s is for the master, which it was itself", e.Seq, e.SrcNode)
		}
	}
	last := terms[len(terms)-1]
	if r.last != last.name {
		fault("the master is %q; of the log it is %q", r.last, last.name)
	}
	members := r.memberRun // what is for the master is not for all
	members.log = slices.DeleteFunc(slices.Clone(r.log), func(e envelope.Envelope) bool { return e.ForMaster })
	faults = append(faults, members.check()...)
	for device, got := range r.got {
		mine := func(name envelope.NodeID) bool { return r.device(name) == device }
		seen := map[uint64]bool{}
		for _, m := range got {
			if seen[m.Seq] = true; m.HasType {
				continue
			}
			if m.Seq == 0 {
				if !around(m.Timestamp, mine) && !around(m.Timestamp, func(name envelope.NodeID) bool { return name == m.SrcNode }) {
					fault("%s received what %s said at %d, and neither was the master", device, m.SrcNode, m.Timestamp)
				}
				continue
			}
			entry := r.log[m.Seq-1]
			if entry.ForMaster && !slices.ContainsFunc(terms, func(t term) bool { return mine(t.name) && t.until >= m.Seq }) {
				fault("%s received %d, which is for the master", device, m.Seq)
			}
		}
		for _, e := range r.log {
			if e.ForMaster && mine(last.name) && e.Seq > last.from && !mine(e.SrcNode) && !seen[e.Seq] {
				fault("%s, the master, did not receive %d", device, e.Seq)
			}
		}
	}
	for device, seqs := range r.reads {
		for _, e := range r.log {
			if !e.ForMaster || r.device(e.SrcNode) == device {
				continue
			}
			may := r.device(last.name) == device && r.last != ""
			if found := slices.Contains(seqs, e.Seq); found && !may {
				fault("%s finds %d, which is for the master", device, e.Seq)
			} else if may && !found && r.within(device, e.Seq) {
				fault("%s, the master, does not find %d", device, e.Seq)
			}
		}
	}
	return faults
}

// within reports whether a device was in, by any of its names, at an entry.
func (r *gameRun) within(device envelope.NodeID, seq uint64) bool {
	in := map[envelope.NodeID]bool{}
	for _, e := range r.log[:seq] {
		if e.HasType && (e.Type == envelope.TypeJoined || e.Type == envelope.TypeLeft) && r.device(e.SrcNode) == device {
			in[e.SrcNode] = e.Type == envelope.TypeJoined
		}
	}
	for _, is := range in {
		if is {
			return true
		}
	}
	return false
}

// Devices at three servers join a game by name or alias, leave it, go away and
// come back elsewhere, are kicked and made its master, and send, all at once. At
// the end it has a master who is there, and the log decides who was to get what.
func TestRandomHandover(t *testing.T) {
	for _, seed := range seeds(t, 4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inMesh(t, 3, func(t *testing.T, m *mesh) {
				const devices, acts = 6, 50
				m.must("d0", "/v1/sessions", `{"session_id":"r","kind":"game"}`)
				run := gameRun{first: "d0", reads: map[envelope.NodeID][]uint64{}, memberRun: memberRun{
					got: map[envelope.NodeID][]client.Message{}, ends: map[string]uint64{}, whose: map[envelope.NodeID]envelope.NodeID{},
				}}
				var mu sync.Mutex
				lives := map[string][]*device{}
				connect := func(id, at string) *device {
					mu.Lock()
					d := m.client(id, at)
					lives[id] = append(lives[id], d)
					mu.Unlock()
					return d
				}
				var first []*device
				for i := range devices {
					id := fmt.Sprint("d", i)
					first = append(first, connect(id, string(rune('a'+i%3))).connected(m))
					run.whose[envelope.AliasOf("r", "z-"+id)] = envelope.NodeID(id)
				}
				m.shaky(rand.New(rand.NewPCG(seed, devices)))
				did := map[string]int{}
				var all sync.WaitGroup
				for i := range devices {
					id, rnd := fmt.Sprint("d", i), rand.New(rand.NewPCG(seed, uint64(i)))
					d := first[i]
					all.Go(func() {
						for n := range acts {
							time.Sleep(time.Duration(rnd.IntN(1500)) * time.Millisecond)
							other := fmt.Sprint("d", rnd.IntN(devices))
							if rnd.IntN(2) == 0 {
								other = "r~z-" + other
							}
							act := []string{
								"/join", "/join", "/join", "/leave", "/kick", "/master", "away",
								"send", "send", "send", "send", "volatile", "volatile", "volatile",
							}[rnd.IntN(14)]
							by, at, path, body := id, m.ids()[rnd.IntN(3)], "/v1/sessions/r"+act, ""
							switch act {
							case "away":
								d.close()
								time.Sleep(time.Duration(rnd.IntN(9000)) * time.Millisecond)
								d = connect(id, at)
								continue
							case "/join":
								if rnd.IntN(2) == 0 {
									body = fmt.Sprintf(`{"alias":"z-%s"}`, id)
								}
							case "/kick", "/master":
								body = fmt.Sprintf(`{"node_id":%q}`, other)
								if rnd.IntN(2) == 0 {
									by = theApp
								}
							case "send", "volatile":
								path = "/v1/messages"
								body = fmt.Sprintf(`{"id":"%d","dest_session_id":"r","payload":"%s %d"}`, n, id, n)
								if act == "volatile" {
									body = fmt.Sprintf(`{"dest_session_id":"r","class":"volatile","payload":"%s %d"}`, id, n)
								}
							}
							code, text := m.do(http.MethodPost, by, at, path, body)
							mu.Lock()
							did[act+" "+string(code)]++
							mu.Unlock()
							if code == envelope.Internal {
								t.Errorf("%s: %s", path, text)
							}
						}
					})
				}
				all.Wait()
				m.sound()
				for i := range devices { // somebody is to be the master at the end
					m.do(http.MethodPost, fmt.Sprint("d", i), "a", "/v1/sessions/r/join", "")
				}
				pass(2 * time.Minute) // everything arrives
				run.last = envelope.NodeID(m.master("r"))
				var err error
				if run.log, err = m.store.Read(t.Context(), room("r"), 0, 10_000, 1<<24); err != nil {
					t.Fatal(err)
				}
				for id, some := range lives {
					device := envelope.NodeID(id)
					for _, d := range some {
						for _, msg := range d.messages() {
							if msg.DestSession == "r" && msg.DestNode == "" {
								run.got[device] = append(run.got[device], msg)
							}
						}
					}
					run.reads[device] = m.seqs(id)
				}
				if run.last == "" || !run.within(run.device(run.last), uint64(len(run.log))) {
					t.Errorf("at the end the master is %q", run.last)
				}
				reasons := map[string]int{}
				for i := range run.log {
					if _, ok := session.NewMaster(&run.log[i]); ok {
						_, reason, _ := strings.Cut(string(run.log[i].Body), `"reason":"`)
						reasons[reason[:4]]++
					}
				}
				t.Log(len(run.log), "entries,", did, reasons)
				for _, fault := range run.check() {
					t.Error(fault)
				}
			})
		})
	}
}

// seqs returns the entries that a device finds in the history of session r.
func (m *mesh) seqs(device string) (seqs []uint64) {
	m.t.Helper()
	for after, more := uint64(0), true; more; {
		var page struct {
			Messages []struct{ Seq uint64 }
			Next     uint64
			More     bool
		}
		code, text := m.do(http.MethodGet, device, "a", fmt.Sprint("/v1/messages?log=session:r&limit=1000&after=", after), "")
		if err := json.Unmarshal([]byte(text), &page); err != nil || code != "" && code != envelope.NotFound {
			m.t.Fatal(text, err)
		}
		for _, msg := range page.Messages {
			seqs = append(seqs, msg.Seq)
		}
		after, more = page.Next, page.More
	}
	return seqs
}

// The checker finds what is wrong.
func TestGameRunCheck(t *testing.T) {
	entry := func(seq uint64, src envelope.NodeID, kind int64, body string, forMaster bool) envelope.Envelope {
		return envelope.Envelope{
			Seq: seq, SrcNode: src, DestSession: "r", HasType: kind != 0, Type: kind, Timestamp: int64(seq) * 10_000, Body: []byte(body), ForMaster: forMaster,
		}
	}
	good := func() []envelope.Envelope {
		return []envelope.Envelope{
			entry(1, "a", envelope.TypeJoined, "", false), entry(2, "b", envelope.TypeJoined, "", false),
			entry(3, "a", 0, "", false), entry(4, "b", 0, "", true),
			entry(5, "a", envelope.TypeMaster, `"payload":{"node_id":"b"}`, false), entry(6, "a", 0, "", true), entry(7, "b", 0, "", false),
		}
	}
	for name, tt := range map[string]struct {
		spoil func(r *gameRun)
		want  string
	}{
		"good":           {func(*gameRun) {}, ""},
		"another master": {func(r *gameRun) { r.last = "a" }, "the master is"},
		"for all":        {func(r *gameRun) { r.log[3].ForMaster = false }, "4 of b is for all"},
		"for itself":     {func(r *gameRun) { r.log[2].ForMaster = true }, "3 of a is for the master, which it was itself"},
		"not for it":     {func(r *gameRun) { r.got["a"] = append(r.got["a"], client.Message{Envelope: r.log[5]}) }, "a received 6"},
		"not delivered":  {func(r *gameRun) { r.got["b"] = r.got["b"][:2] }, "b, the master, did not receive 6"},
		"found":          {func(r *gameRun) { r.log = append(r.log, entry(8, "b", 0, "", false)); r.reads["a"] = []uint64{4} }, "a finds 4"},
		"not found":      {func(r *gameRun) { r.reads["b"] = nil }, "b, the master, does not find 6"},
		"between others": {func(r *gameRun) {
			r.got["a"] = append(r.got["a"], client.Message{Envelope: envelope.Envelope{SrcNode: "c", Timestamp: 65_000}})
		}, "neither"},
		"not to all": {func(r *gameRun) { r.got["b"] = r.got["b"][1:] }, "b did not receive 3"},
	} {
		log := good()
		messages := func(seqs ...int) (all []client.Message) {
			for _, seq := range seqs {
				all = append(all, client.Message{Envelope: log[seq-1]})
			}
			return all
		}
		run := gameRun{first: "a", last: "b", reads: map[envelope.NodeID][]uint64{"a": {6}, "b": {4, 6}}, memberRun: memberRun{
			log: log, got: map[envelope.NodeID][]client.Message{"a": messages(2, 4, 7), "b": messages(3, 5, 6)},
		}}
		tt.spoil(&run)
		got := strings.Join(run.check(), "; ")
		if (tt.want == "") != (got == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}
