//go:build peers

package ejabberd

import (
	"testing"

	"github.com/allsparkrt/allspark/bench/peer/internal/program"
	"github.com/allsparkrt/allspark/bench/peer/peertest"
)

func TestTarget(t *testing.T) {
	peertest.Need(t, program.Find, "ejabberdctl")
	peertest.Run(t, New())
}
