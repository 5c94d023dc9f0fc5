package apart

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/bench/peer"
	"github.com/allsparkrt/allspark/bench/peer/floor"
	"github.com/allsparkrt/allspark/bench/peer/wire"
)

// Users get what those of their own server send and nothing else, also when they
// have come by another target that was told where the servers are.
func TestIslands(t *testing.T) {
	loop, err := wire.NewLoop(1)
	if err != nil {
		t.Fatal(err)
	}
	servers := Of(floor.TCP(), 2)
	if err := servers.Start(t.Context(), peer.Env{Dir: t.TempDir(), Loop: loop}); err != nil {
		t.Fatal(err)
	}
	guest := servers.Another()
	at := servers.Reach()
	at.Loop = loop
	if err := guest.Start(t.Context(), at); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(guest.Stop(), servers.Stop(), loop.Close()); err != nil {
			t.Error(err)
		}
	})
	if can := servers.About().Can; !can.Islands || can.Servers != 2 || can.Processes != 2 || can.Groups || len(servers.PIDs()) != 2 {
		t.Errorf("%+v, %v", can, servers.PIDs())
	}
	heard := make(chan string, 100)
	var clients []peer.Client
	for i := range 4 {
		target := []peer.Target{servers, guest}[i/2]
		c, err := target.Connect(t.Context(), peer.User{Name: fmt.Sprint("u", i), Index: i}, peer.Handler{
			Message: func(body []byte) { heard <- fmt.Sprint("u", i, " ", string(body)) },
		})
		if err != nil {
			t.Fatal(err)
		}
		clients = append(clients, c)
	}
	for from, c := range clients {
		for to := range clients { // the last one of each island comes last
			if err := c.Send(fmt.Sprint("u", to), peer.Message{Body: fmt.Appendf(nil, "of %d", from)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := []string{"u0 of 0", "u0 of 2", "u1 of 1", "u1 of 3", "u2 of 0", "u2 of 2", "u3 of 1", "u3 of 3"}
	var got []string
	for range want {
		select {
		case h := <-heard:
			got = append(got, h)
		case <-time.After(30 * time.Second):
			t.Fatalf("only %q", got)
		}
	}
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

func TestAddressesOfAllServers(t *testing.T) {
	if err := Of(floor.TCP(), 2).Start(t.Context(), peer.Env{Address: "127.0.0.1:1"}); err == nil {
		t.Error("two servers at one address")
	}
}
