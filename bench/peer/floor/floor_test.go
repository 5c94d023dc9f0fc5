package floor

import (
	"testing"

	"github.com/allsparkrt/allspark/bench/peer"
	"github.com/allsparkrt/allspark/bench/peer/peertest"
)

func TestTargets(t *testing.T) {
	for _, target := range []peer.Target{TCP(), WebSocket(), Coder(), NewDisk()} {
		t.Run(target.About().Name, func(t *testing.T) { peertest.Run(t, target) })
	}
}
