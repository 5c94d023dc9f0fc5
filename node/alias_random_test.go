package node

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// Devices join by name and by alias, leave, move between three servers and
// write to each other's aliases, all at once. What was acknowledged arrives at
// the device whose alias it is, once and nowhere else, and says no more of its
// sender than the name by which that was in.
func TestRandomAliasMessages(t *testing.T) {
	for _, seed := range seeds(t, 3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inMesh(t, 3, func(t *testing.T, m *mesh) {
				const devices, acts = 5, 80
				m.must(theApp, "/v1/sessions", `{"session_id":"r"}`)
				var connected []*device
				for i := range devices {
					id := fmt.Sprint("d", i)
					connected = append(connected, m.device(id, id))
				}
				drop := func(i int) {
					for _, at := range m.ids() {
						if c := m.at(at).conns.device(envelope.NodeID(fmt.Sprint("d", i))); c != nil {
							c.close(envelope.GoingAway, "go elsewhere")
						}
					}
				}
				var mu sync.Mutex
				acknowledged := map[string]string{} // payload → the alias it was for
				did := map[string]int{}
				m.shaky(rand.New(rand.NewPCG(seed, devices)))
				var all sync.WaitGroup
				for i := range devices {
					id, rnd := fmt.Sprint("d", i), rand.New(rand.NewPCG(seed, uint64(i)))
					all.Go(func() {
						for n := range acts {
							time.Sleep(time.Duration(rnd.IntN(400)) * time.Millisecond)
							at, path, body := m.ids()[rnd.IntN(3)], "/v1/sessions/r", ""
							act := []string{"/join", "/join", "alias", "alias", "alias", "/leave", "send", "send", "send", "send", "send", "drop"}[rnd.IntN(12)]
							to, said := "r~z-"+fmt.Sprint("d", rnd.IntN(devices)), fmt.Sprint(id, " ", n)
							switch act {
							case "drop":
								drop(i)
								continue
							case "alias":
								path, body = path+"/join", fmt.Sprintf(`{"alias":"z-%s"}`, id)
							case "send":
								path, body = "/v1/messages", private(to, fmt.Sprintf(`"id":"%d","payload":%q`, n, said))
							default:
								path += act
							}
							code, text := m.do(http.MethodPost, id, at, path, body)
							mu.Lock()
							did[act+" "+string(code)]++
							if act == "send" && code == "" {
								acknowledged[said] = to
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
				for i := range devices { // who had left finds now what came after that
					drop(i)
				}
				pass(2 * time.Minute)
				t.Log(len(acknowledged), "messages,", did)
				for i, d := range connected {
					id := fmt.Sprint("d", i)
					got := map[string]bool{}
					for _, msg := range d.messages() {
						src, said := string(msg.SrcNode), text(msg.Envelope)
						if msg.DestNode == "" { // a note to all
							continue
						}
						if to := "r~z-" + id; string(msg.DestNode) != to {
							t.Errorf("%s received %q, which is for %s", id, said, msg.DestNode)
						}
						if got[said] {
							t.Errorf("%s received %q twice", id, said)
						}
						got[said] = true
						by, _, _ := strings.Cut(said, " ")
						if alias := src == "r~z-"+by; !alias && src != by || alias != (msg.SrcClient == "") {
							t.Errorf("%q came from %s of %q", said, src, msg.SrcClient)
						}
					}
					for said, to := range acknowledged {
						if to == "r~z-"+id && !got[said] {
							t.Errorf("%s did not receive %q", id, said)
						}
					}
				}
			})
		})
	}
}
