//go:build peers

package mosquitto

import (
	"testing"

	"github.com/allsparkrt/allspark/bench/peer/internal/program"
	"github.com/allsparkrt/allspark/bench/peer/peertest"
)

func TestTarget(t *testing.T) {
	peertest.Need(t, program.Find, "mosquitto")
	peertest.Run(t, New())
}
