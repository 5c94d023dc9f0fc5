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
	"github.com/allsparkrt/allspark/session"
)

// heard is one thing a device was told of a session: an entry, or its header.
type heard struct {
	seq    uint64
	header bool
}

// headerRun is what has happened in one session: its log, what each device has
// been told of it, in that order, and what it had the right to see.
type headerRun struct {
	log   []envelope.Envelope
	told  map[envelope.NodeID][]heard
	stays map[envelope.NodeID][]session.Span
}

// check returns what is wrong. Whatever a device is told, it knows by then the
// newest header of those below, told as such or as an entry; and nothing that
// it may see is missing.
func (r *headerRun) check() []string {
	var faults []string
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	var headers []envelope.Envelope
	for _, e := range r.log {
		if e.HasType && e.Type == envelope.TypeHeader {
			headers = append(headers, e)
		}
	}
	newest := func(device envelope.NodeID, below uint64) (seq uint64) {
		for _, h := range headers {
			if h.Seq < below && h.SrcNode != device {
				seq = h.Seq
			}
		}
		return seq
	}
	isHeader := func(seq uint64) bool {
		return slices.ContainsFunc(headers, func(h envelope.Envelope) bool { return h.Seq == seq })
	}
	for device, told := range r.told {
		stays := r.stays[device]
		knows, seen := uint64(0), map[uint64]bool{}
		for _, t := range told {
			switch {
			case t.header && !slices.ContainsFunc(stays, func(s session.Span) bool { return s.Until == 0 || t.seq <= s.Until }):
				fault("%s was told the header %d after it had left", device, t.seq)
			case t.header && !isHeader(t.seq):
				fault("%s was told %d as a header", device, t.seq)
			case !t.header && !slices.ContainsFunc(stays, func(s session.Span) bool { return s.Sees(t.seq) }):
				fault("%s was told %d outside of its stays", device, t.seq)
			case !t.header && newest(device, t.seq) > knows:
				fault("%s was told %d and knew the header %d, not %d", device, t.seq, knows, newest(device, t.seq))
			}
			if t.header || isHeader(t.seq) {
				knows = max(knows, t.seq)
			}
			seen[t.seq] = seen[t.seq] || !t.header
		}
		for i, s := range stays {
			from := s.First()
			if i > 0 {
				from = max(from, stays[i-1].Until+1)
			}
			for _, e := range r.log {
				if e.Seq >= from && (s.Until == 0 || e.Seq <= s.Until) && e.SrcNode != device && !seen[e.Seq] {
					fault("%s was not told %d", device, e.Seq)
				}
			}
			if last := newest(device, 1<<62); s.Until == 0 && last > knows {
				fault("%s knows the header %d, not %d", device, knows, last)
			}
		}
	}
	return faults
}

// Devices at three servers join, leave, connect again and send while headers
// are set at all of them, and the store loses calls and answers.
func TestRandomHeaders(t *testing.T) {
	for _, late := range []string{"joining", "header"} {
		for _, seed := range seeds(t, 3) {
			t.Run(fmt.Sprint(late, seed), func(t *testing.T) {
				inMesh(t, 3, func(t *testing.T, m *mesh) { randomHeaders(t, m, late, seed) })
			})
		}
	}
}

func randomHeaders(t *testing.T, m *mesh, late string, seed uint64) {
	const devices, acts = 6, 60
	m.must("d0", "/v1/sessions", fmt.Sprintf(`{"session_id":"r","late_joiners":%q}`, late))
	var mu sync.Mutex
	run := headerRun{told: map[envelope.NodeID][]heard{}, stays: map[envelope.NodeID][]session.Span{}}
	note := func(device envelope.NodeID, h heard) {
		mu.Lock()
		defer mu.Unlock()
		run.told[device] = append(run.told[device], h)
	}
	for i := range devices {
		id, at := envelope.NodeID(fmt.Sprint("d", i)), string(rune('a'+i%3))
		d := m.deviceWith(string(id), string(id), client.Options{OnHeader: func(h client.Header) { note(id, heard{h.Seq, true}) }}, at)
		d.mu.Lock()
		d.each = func(msg client.Message) {
			if msg.DestSession == "r" && msg.Seq > 0 {
				note(id, heard{msg.Seq, false})
			}
		}
		d.mu.Unlock()
		d.connected(m)
	}
	m.shaky(rand.New(rand.NewPCG(seed, devices)))
	did := map[string]int{}
	var all sync.WaitGroup
	for i := range devices {
		id, rnd := fmt.Sprint("d", i), rand.New(rand.NewPCG(seed, uint64(i)))
		all.Go(func() {
			for n := range acts {
				time.Sleep(time.Duration(rnd.IntN(400)) * time.Millisecond)
				at := m.ids()[rnd.IntN(3)]
				method, by, path, body := http.MethodPost, id, "/v1/sessions/r", ""
				act := []string{"/join", "/join", "/join", "/leave", "/header", "/header", "send", "send", "gone"}[rnd.IntN(9)]
				switch act {
				case "/header":
					method, by, body = http.MethodPut, []string{theApp, "d0"}[rnd.IntN(2)], fmt.Sprintf(`"%s %d"`, id, n)
					path += act
				case "send":
					path, body = "/v1/messages", fmt.Sprintf(`{"id":"%d","dest_session_id":"r","payload":"%s %d"}`, n, id, n)
				case "gone":
					if c := m.at(string(rune('a' + i%3))).conns.device(envelope.NodeID(id)); c != nil {
						c.t.Abort()
					}
					continue
				default:
					path += act
				}
				code, text := m.do(method, by, at, path, body)
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
	pass(2 * time.Minute) // everything arrives
	var err error
	if run.log, err = m.store.Read(t.Context(), room("r"), 0, 10_000, 1<<24); err != nil {
		t.Fatal(err)
	}
	told := 0
	for i := range devices {
		id := envelope.NodeID(fmt.Sprint("d", i))
		of, err := m.at("a").sessions.Stays(t.Context(), "r", id)
		if err != nil {
			t.Fatal(err)
		}
		run.stays[id] = of.Spans
		for _, h := range run.told[id] {
			if h.header {
				told++
			}
		}
	}
	t.Log(len(run.log), "entries,", told, "headers told,", did)
	if told < devices {
		t.Error("hardly any headers were told")
	}
	mu.Lock()
	defer mu.Unlock()
	for _, fault := range run.check() {
		t.Error(fault)
	}
}

// The checker finds what is wrong.
func TestHeaderRunCheck(t *testing.T) {
	entry := func(seq uint64, src envelope.NodeID, kind int64) envelope.Envelope {
		return envelope.Envelope{Seq: seq, SrcNode: src, HasType: kind != 0, Type: kind}
	}
	log := []envelope.Envelope{
		entry(1, "a", envelope.TypeJoined), entry(2, "app", envelope.TypeHeader), entry(3, "a", 0), entry(4, "b", envelope.TypeJoined),
		entry(5, "app", envelope.TypeHeader), entry(6, "a", 0), entry(7, "b", envelope.TypeLeft), entry(8, "app", envelope.TypeHeader),
	}
	for name, tt := range map[string]struct {
		told, want string
		stay       session.Span
	}{
		"good":                     {"h2 5 6", "", session.Span{From: 4, Until: 7}},
		"good, and new":            {"h5 5 6", "", session.Span{From: 4, Until: 7}},
		"good, from the header on": {"h2 3 5 6", "", session.Span{From: 4, Until: 7, Since: 3}},
		"none":                     {"5 6", "knew the header 0, not 2", session.Span{From: 4, Until: 7}},
		"too late":                 {"5 h2 6", "knew the header 0, not 2", session.Span{From: 4, Until: 7}},
		"old":                      {"h2 6", "knew the header 2, not 5", session.Span{From: 4, Until: 7}},
		"a hole":                   {"h2 5", "was not told 6", session.Span{From: 4, Until: 7}},
		"a hole before":            {"h2 5 6", "was not told 3", session.Span{From: 4, Until: 7, Since: 3}},
		"outside":                  {"h2 3 5 6", "told 3 outside", session.Span{From: 4, Until: 7}},
		"after it left":            {"h2 5 6 h8", "after it had left", session.Span{From: 4, Until: 7}},
		"no header":                {"h2 h3 5 6", "told 3 as a header", session.Span{From: 4, Until: 7}},
		"not the last":             {"h5 5 6 7", "knows the header 5, not 8", session.Span{From: 4}},
	} {
		run := headerRun{log: log, told: map[envelope.NodeID][]heard{}, stays: map[envelope.NodeID][]session.Span{"b": {tt.stay}}}
		for _, word := range strings.Fields(tt.told) {
			var h heard
			text, header := strings.CutPrefix(word, "h")
			_, _ = fmt.Sscan(text, &h.seq)
			h.header = header
			run.told["b"] = append(run.told["b"], h)
		}
		got := strings.Join(run.check(), "; ")
		if (tt.want == "") != (got == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}

// Connections at three servers follow a topic, one after the other, while its
// header is set and its followers are spoken to: each is told the header first,
// and then, without a hole, what follows.
func TestRandomTopicHeaders(t *testing.T) {
	for _, seed := range seeds(t, 3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inMesh(t, 3, func(t *testing.T, m *mesh) {
				const followers, acts = 30, 60
				m.must(theApp, "/v1/sessions", `{"session_id":"topic:t","kind":"topic","keep_count":1000}`)
				m.head(theApp, "a", "topic:t", `"first"`) // 1
				m.shaky(rand.New(rand.NewPCG(seed, 1)))
				var all sync.WaitGroup
				for i := range 3 {
					rnd := rand.New(rand.NewPCG(seed, uint64(i)))
					all.Go(func() {
						for n := range acts {
							time.Sleep(time.Duration(rnd.IntN(100)) * time.Millisecond)
							at, method, path := m.ids()[rnd.IntN(3)], http.MethodPut, "/v1/sessions/topic:t/header"
							body := fmt.Sprintf(`"%d of %d"`, n, i)
							if rnd.IntN(3) > 0 {
								method, path = http.MethodPost, "/v1/messages"
								body = fmt.Sprintf(`{"id":"%d-%d","dest_session_id":"topic:t","payload":%s}`, i, n, body)
							}
							m.do(method, theApp, at, path, body)
						}
					})
				}
				rnd, told := rand.New(rand.NewPCG(seed, 9)), make([]*listener, followers)
				for i := range followers {
					time.Sleep(time.Duration(rnd.IntN(200)) * time.Millisecond)
					told[i] = m.listensWith(fmt.Sprint("f", i), m.ids()[rnd.IntN(3)], `"topics":["topic:t"]`)
				}
				all.Wait()
				m.sound()
				pass(2 * time.Minute)
				log, err := m.store.Read(t.Context(), room("topic:t"), 0, 10_000, 1<<24)
				if err != nil {
					t.Fatal(err)
				}
				run := headerRun{log: log, told: map[envelope.NodeID][]heard{}, stays: map[envelope.NodeID][]session.Span{}}
				for i, l := range told {
					id, frames := envelope.NodeID(fmt.Sprint("f", i)), l.take()
					_, begin, _ := strings.Cut(frames, `"control":"subscribed","cursors":{"session:topic:t":`)
					run.stays[id] = []session.Span{{From: number(`x`+begin, "x") + 1}}
					for _, word := range story(frames, "topic:t") {
						text, header := strings.CutPrefix(word, "h")
						h := heard{header: header}
						_, _ = fmt.Sscan(text, &h.seq)
						run.told[id] = append(run.told[id], h)
					}
					if got := run.told[id]; len(got) == 0 || !got[0].header {
						t.Errorf("%s was not told the header first: %v", id, got)
					}
				}
				for _, fault := range run.check() {
					t.Error(fault)
				}
			})
		})
	}
}
