package native

import (
	"bufio"
	"testing"

	"github.com/allsparkrt/allspark/gateway"
)

// TestLibraryOnlyIfNeeded: a client that says text in whole frames and answers
// pings costs no WebSocket library; the first thing else brings it in.
func TestLibraryOnlyIfNeeded(t *testing.T) {
	loops := startLoops(t)
	for _, of := range []struct {
		name   string
		frames []wireFrame
		comes  bool
	}{
		{"nothing", nil, false},
		{"pongs", []wireFrame{{op: pong}, {op: pong}}, false},
		{"a ping", []wireFrame{{op: ping, payload: "x"}}, true},
		{"fragments", fragments("some text", 4), true},
	} {
		t.Run(of.name, func(t *testing.T) {
			core := meetCore{met: make(chan gateway.Transport, 1)}
			client := dialCore(t, core, loops)
			server := (<-core.met).(*waiter)
			reader := bufio.NewReader(client)
			for _, f := range append(of.frames, wireFrame{op: text, payload: "end"}) {
				if _, err := client.Write(f.append(nil)); err != nil {
					t.Fatal(err)
				}
			}
			for payload := ""; payload != "end"; {
				var err error
				if _, payload, err = readWire(reader); err != nil {
					t.Fatal(err)
				}
			}
			server.look.Lock()
			defer server.look.Unlock()
			if comes := server.lib != nil; comes != of.comes {
				t.Errorf("the library is there: %v", comes)
			}
		})
	}
}
