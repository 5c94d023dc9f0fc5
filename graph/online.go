package graph

import (
	"context"

	"github.com/allsparkrt/allspark/envelope"
)

// onlineBatch is how many addresses Online asks the store about at once.
const onlineBatch = 500

// Online returns which of some addresses somebody holds now: here, or at
// another server whose lease lives. It asks the store, not the routes: the
// answer is no older than the call.
func (g *Graph) Online(ctx context.Context, addrs []envelope.Address) (map[envelope.Address]bool, error) {
	online := make(map[envelope.Address]bool, len(addrs))
	var elsewhere []envelope.Address
	for _, addr := range addrs {
		if g.holds.has(addr) {
			online[addr] = true
		} else {
			elsewhere = append(elsewhere, addr)
		}
	}
	for len(elsewhere) > 0 {
		some := elsewhere[:min(len(elsewhere), onlineBatch)]
		elsewhere = elsewhere[len(some):]
		found, err := g.find(ctx, some)
		if err != nil {
			return nil, err
		}
		for addr, leases := range found {
			for _, l := range leases {
				if l.alive.Load() {
					online[addr] = true
				}
			}
		}
	}
	return online, nil
}
