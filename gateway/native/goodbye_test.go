package native

import (
	"bufio"
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/internal/loop"
)

// meetCore is an echo that gives its transports to the test.
type meetCore struct {
	echoCore
	met chan gateway.Transport
}

func (c meetCore) Serve(ctx context.Context, who envelope.Principal, t gateway.Transport, codec gateway.Codec, o gateway.Options) {
	c.met <- t
	c.echoCore.Serve(ctx, who, t, codec, o)
}

// TestGoodbyeInLoop: a server that says goodbye has closed the connection when
// the client has answered, whoever reads the answer.
func TestGoodbyeInLoop(t *testing.T) {
	loops := startLoops(t)
	for _, talks := range []bool{false, true} {
		t.Run("talks "+strconv.FormatBool(talks), func(t *testing.T) {
			for range 100 {
				sayGoodbye(t, loops, talks)
			}
		})
	}
}

// sayGoodbye has the server say goodbye to a client that is quiet, or talks until
// it is told.
func sayGoodbye(t *testing.T, loops *loop.Loops, talks bool) {
	t.Helper()
	core := meetCore{met: make(chan gateway.Transport, 1)}
	client := dialCore(t, core, loops)
	server := <-core.met
	say := func(f wireFrame) {
		if _, err := client.Write(f.append(nil)); err != nil {
			t.Fatal(err)
		}
	}
	if talks {
		for range 100 {
			say(wireFrame{op: text, payload: "hello"})
		}
	}
	said := make(chan time.Duration, 1)
	go func() {
		began := time.Now()
		server.Close(envelope.GoingAway, "")
		said <- time.Since(began)
	}()
	for reader := bufio.NewReader(client); ; {
		op, payload, err := readWire(reader)
		if err != nil || op != text && op != close {
			t.Fatalf("%x %q %v", op, payload, err)
		}
		say(wireFrame{op: op, payload: payload})
		if op == close {
			break
		}
	}
	if took := <-said; took > closeWithin/2 {
		t.Fatalf("the goodbye took %v", took)
	}
}
