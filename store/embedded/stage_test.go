package embedded

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/allsparkrt/allspark/envelope"
)

// Where logs stand is remembered without the messages that came to them first.
func TestHeadsKeepNoMessages(t *testing.T) {
	const logs = 50_000
	s := openIn(t, t.TempDir())
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	fill := func(prefix string, keep func(envelope.Address) envelope.Address) uint64 {
		before := heap()
		done := make(chan error, 512)
		for from := 0; from < logs; from += 500 {
			for i := from; i < from+500; i++ {
				var p envelope.Parser
				env, err := p.ParseNew([]byte(fmt.Sprintf(`{"id":"m%d","dest_id":"%s%d","payload":"%s"}`, i, prefix, i, strings.Repeat("x", 150))))
				if err != nil {
					t.Fatal(err)
				}
				env.SrcNode = "alice"
				s.Append(keep(env.Dest()), env, func(_ uint64, err error) { done <- err })
			}
			for range 500 {
				if err := <-done; err != nil {
					t.Fatal(err)
				}
			}
		}
		return (heap() - before) / logs
	}
	cloned := fill("a", envelope.Address.Clone)
	given := fill("b", func(a envelope.Address) envelope.Address { return a })
	t.Logf("%d bytes for each log with a clone of its address, %d with the address as it came", cloned, given)
	if given > cloned+100 {
		t.Error("the messages are kept")
	}
	mustClose(t, s)
}
