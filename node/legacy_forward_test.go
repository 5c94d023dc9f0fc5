package node

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// member is a device in a session, of the older or the newer form.
type member struct {
	id, at string
	name   string     // in the session: the id, or an alias
	old    *collector // one of them
	new    *device
}

// texts returns the texts received so far, each with where it came from, and
// whether it was private. The order within each is the order of arrival.
func (p *member) texts() []string {
	var all []envelope.Envelope
	if p.old != nil {
		for _, f := range p.old.frames() {
			all = append(all, f.msg)
		}
	} else {
		for _, m := range p.new.messages() {
			all = append(all, m.Envelope)
		}
	}
	var said []string
	for _, e := range all {
		if e.HasType { // who came and went, and answers
			continue
		}
		kind := "all"
		if e.DestNode != "" {
			kind = "private to " + string(e.DestNode)
		}
		said = append(said, fmt.Sprintf("%s %s from %s in %s", kind, text(e), e.SrcNode, e.DestSession))
	}
	return said
}

// types returns the types of the system messages received so far.
func (p *member) types() []string {
	var all []string
	if p.old == nil {
		return nil
	}
	for _, f := range p.old.frames() {
		if f.msg.HasType {
			all = append(all, fmt.Sprint(f.msg.Type, " ", f.msg.SrcNode))
		}
	}
	return all
}

// join joins a session by a call to a server.
func (p *member) join(m *mesh, room, at string, anonymous bool) {
	m.t.Helper()
	if p.old == nil {
		_, body := m.do(http.MethodPost, p.id, at, "/v1/sessions/"+room+"/join", fmt.Sprintf(`{"as_anonymous":%v}`, anonymous))
		var joined struct {
			Name string `json:"node_id"`
		}
		if err := json.Unmarshal([]byte(body), &joined); err != nil {
			m.t.Fatal(body, err)
		}
		p.name = joined.Name
		return
	}
	_, body := m.legacyCall(p.id, at, "join_session", "session_id="+room, fmt.Sprint("is_anonymous=", anonymous))
	var joined [2]*string // the device, and its alias if it has one
	if err := json.Unmarshal([]byte(body), &joined); err != nil || *joined[0] != p.id || (joined[1] != nil) != anonymous {
		m.t.Fatal(body, err)
	}
	if p.name = p.id; anonymous {
		p.name = *joined[1]
	}
}

// send sends to a session, or to one member of it, by HTTP or by the socket.
func (p *member) send(m *mesh, room, to, said string, byHTTP bool) {
	m.t.Helper()
	e := envelope.Envelope{ID: strings.ReplaceAll(said, " ", "_"), DestSession: roomID(room), DestNode: envelope.NodeID(to)}
	e.Body = fmt.Appendf(nil, `"payload":%q`, said)
	switch {
	case byHTTP:
		if _, err := m.api(p.id, p.id, p.at).SendHTTP(m.t.Context(), e); err != nil {
			m.t.Errorf("%s: %s: %v", p.id, said, err)
		}
	case p.old != nil:
		p.old.send(string(e.AppendRequest(nil)))
	default:
		p.new.send(e)
	}
}

// The original let session messages go astray between servers. Here members of
// both forms are at every server; each says something to all and to each other
// one, by HTTP and by its socket; and once more when one of them has left. All
// are there by name, or most of them by an alias, on both sides of every link.
func TestLegacySessionAcrossServers(t *testing.T) {
	for _, tt := range []struct {
		servers   int
		anonymous bool
	}{{2, false}, {3, false}, {2, true}, {3, true}} {
		t.Run(fmt.Sprint(tt.servers, " servers, anonymous: ", tt.anonymous), func(t *testing.T) {
			inMesh(t, tt.servers, func(t *testing.T, m *mesh) {
				ids := m.ids()
				var members []*member
				for _, at := range ids {
					for _, old := range []bool{true, false} {
						p := &member{id: "new-" + at, at: at}
						if old {
							p.id, p.old = "old-"+at, m.collector("old-"+at, at)
						} else {
							p.new = m.client(p.id, at).connected(m)
						}
						members = append(members, p)
					}
				}
				outside := &member{id: "outside", at: ids[1], old: m.collector("outside", ids[1])}
				room := m.legacySession(members[0].id, ids[1], "anyone_can_join=True")
				members[0].name = members[0].id
				for i, p := range members[1:] {
					p.join(m, room, ids[i%len(ids)], tt.anonymous && i%3 != 2) // calls may go to any server
				}
				pass(3 * time.Second)

				want := make(map[*member][]string)
				said := 0
				round := func(present []*member) {
					for _, from := range present {
						for _, byHTTP := range []bool{false, true} {
							pass(time.Second)
							said++
							text := fmt.Sprint("message ", said)
							from.send(m, room, "", text, byHTTP)
							for _, p := range present {
								if p != from {
									want[p] = append(want[p], fmt.Sprintf("all %s from %s in %s", text, from.name, room))
								}
							}
							for _, p := range present {
								if p == from {
									continue
								}
								said++
								text := fmt.Sprint("message ", said)
								from.send(m, room, p.name, text, byHTTP)
								want[p] = append(want[p], fmt.Sprintf("private to %s %s from %s in %s", p.name, text, from.name, room))
							}
						}
					}
					pass(5 * time.Second)
					for _, p := range append(slices.Clone(members), outside) {
						got, want := p.texts(), slices.Clone(want[p])
						for _, kind := range []string{"all ", "private "} { // two logs, each in order
							keep := func(all []string) []string {
								return slices.DeleteFunc(slices.Clone(all), func(s string) bool { return !strings.HasPrefix(s, kind) })
							}
							if g, w := keep(got), keep(want); !slices.Equal(g, w) {
								t.Errorf("%s got of %s\n%s\nwant\n%s", p.id, kind, strings.Join(g, "\n"), strings.Join(w, "\n"))
							}
						}
					}
				}
				round(members)

				// One of each form leaves, through another server than its own.
				for _, gone := range []*member{members[2], members[1]} {
					at := ids[(slices.Index(ids, gone.at)+1)%len(ids)]
					if gone.old == nil {
						if _, err := m.api(gone.id, gone.id, at).LeaveSession(t.Context(), roomID(room)); err != nil {
							t.Fatal(err)
						}
					} else if status, body := m.legacyCall(gone.id, at, "unjoin_session", "session_id="+room); status != 200 {
						t.Fatal(status, body)
					}
					pass(3 * time.Second)
					present := slices.DeleteFunc(slices.Clone(members), func(p *member) bool { return p == gone })
					round(present)
					for _, p := range present {
						if p.old != nil && !slices.Contains(p.types(), "103 "+gone.name) {
							t.Errorf("%s was not told that %s left: %v", p.id, gone.id, p.types())
						}
					}
					if gone.old != nil {
						gone.send(m, room, "", "from outside", false)
						pass(3 * time.Second)
						if types := gone.types(); types[len(types)-1] != "-5 " {
							t.Errorf("who has left was told %v", types)
						}
					}
					// And comes back, at its own server.
					was := gone.name
					if gone.join(m, room, gone.at, was != gone.id); gone.name != was {
						t.Errorf("%s was %s, and came back as %s", gone.id, was, gone.name)
					}
					pass(3 * time.Second)
					round(members)
				}
			})
		})
	}
}
