//go:build peers

package nats

import (
	"testing"

	"github.com/allsparkrt/allspark/bench/peer/internal/program"
	"github.com/allsparkrt/allspark/bench/peer/peertest"
)

func TestTarget(t *testing.T) {
	peertest.Need(t, program.Find, "nats-server")
	peertest.Run(t, New())
}
