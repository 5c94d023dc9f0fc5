//go:build peers

package tinode

import (
	"testing"

	"github.com/allsparkrt/allspark/bench/peer/internal/program"
	"github.com/allsparkrt/allspark/bench/peer/peertest"
)

func TestTarget(t *testing.T) {
	peertest.Need(t, program.Find, "tinode", "tinode-db")
	if _, err := findPostgres(); err != nil {
		t.Fatal(err)
	}
	peertest.Run(t, New())
}
