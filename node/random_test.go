package node

import (
	"fmt"
	"testing"
)

// Random devices live in a mesh of three servers in which things break:
// servers die and leave, links are cut, jammed and reset, stores refuse, are
// slow or do not answer, logs are trimmed. They send, send again, join, leave,
// stall, go away and come back elsewhere, some as new devices. Then a checker
// decides the promises from what they noted.
func TestRandomMesh(t *testing.T) {
	for i, seed := range seeds(t, 4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inMeshOf(t, 3, shared(i%2 == 0), func(t *testing.T, m *mesh) {
				for _, fault := range m.live(t, fullPlan, seed) {
					t.Error(fault)
				}
			})
		})
	}
}
