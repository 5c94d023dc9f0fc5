// Package peers lists the targets beside AllSpark.
package peers

import (
	"github.com/allsparkrt/allspark/bench/peer"
	"github.com/allsparkrt/allspark/bench/peer/centrifugo"
	"github.com/allsparkrt/allspark/bench/peer/ejabberd"
	"github.com/allsparkrt/allspark/bench/peer/floor"
	"github.com/allsparkrt/allspark/bench/peer/mosquitto"
	"github.com/allsparkrt/allspark/bench/peer/nats"
	"github.com/allsparkrt/allspark/bench/peer/tinode"
)

// All returns new targets that are not started: other servers, and then floors.
func All() []peer.Target {
	return []peer.Target{
		centrifugo.New(), nats.New(), mosquitto.New(), ejabberd.New(), tinode.New(),
		floor.Coder(), floor.WebSocket(), floor.TCP(), floor.NewDisk(),
	}
}
