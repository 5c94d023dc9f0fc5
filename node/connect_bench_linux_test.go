package node

import (
	"fmt"
	"testing"
)

// BenchmarkConnect is devices that are new, follow a topic that ten share, and go
// again, over TCP: all but the pre-connection call, with their clients.
func BenchmarkConnect(b *testing.B) {
	m := newMesh(b, 1, nil, false)
	defer m.close()
	where := m.listenLooped("a")
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		conn, _ := m.dialLooped(where, fmt.Sprint("device", i), fmt.Sprint("topic:room", i/10))
		_ = conn.Close()
	}
}
