package session_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/session"
)

// flaky is a store and a log whose writes take their time, and fail now and
// then, done or not.
type flaky struct {
	*world
	session.Store

	fails sync.Mutex
	rnd   *rand.Rand // guarded by fails
}

func (f *flaky) try(write func() error) error {
	f.fails.Lock()
	luck := f.rnd.IntN(40)
	f.fails.Unlock()
	switch {
	case luck == 0:
		return errAway
	case luck == 1:
		_ = write()
		return errAway
	case luck < 10:
		time.Sleep(time.Duration(luck) * 400 * time.Microsecond) // long enough for others to come between
	}
	return write()
}

func (f *flaky) PutMember(ctx context.Context, m session.Member) error {
	return f.try(func() error { return f.Store.PutMember(ctx, m) })
}

func (f *flaky) UpdateSession(ctx context.Context, s session.Session) error {
	return f.try(func() error { return f.Store.UpdateSession(ctx, s) })
}

func (f *flaky) PutHeader(ctx context.Context, h session.Header) error {
	return f.try(func() error { return f.Store.PutHeader(ctx, h) })
}

func (f *flaky) append(ctx context.Context, log envelope.Address, env *envelope.Envelope) (seq uint64, err error) {
	err = f.try(func() error { seq, err = f.world.append(ctx, log, env); return err })
	return seq, err
}

// Whatever several servers do at once to a game, and wherever they fail, in the
// end its rows say what its log says: who was in when and by what name, who is
// master, and what the header is. Nobody was ever in by two names.
func TestRandomChanges(t *testing.T) {
	for seed := range uint64(5) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := newWorld(t)
			settings := session.Settings{AnyoneCanJoin: true, Kind: session.Game, MemberLimit: 4}
			if _, err := w.Create(t.Context(), who("d0"), "r", settings, session.As{}); err != nil {
				t.Fatal(err)
			}
			f := &flaky{world: w, Store: w.store, rnd: rand.New(rand.NewPCG(seed, 0))}
			var servers sync.WaitGroup
			for i := range uint64(4) {
				s, rnd := session.New(f, f.append, nil), rand.New(rand.NewPCG(seed, i+1))
				servers.Go(func() {
					for range 40 {
						randomChange(t.Context(), s, rnd)
					}
				})
			}
			servers.Wait()
			w.checkRows(t)
		})
	}
}

func randomChange(ctx context.Context, s *session.Sessions, rnd *rand.Rand) {
	me := who(fmt.Sprint("d", rnd.IntN(4)))
	other := envelope.NodeID(fmt.Sprint("d", rnd.IntN(4)))
	if rnd.IntN(2) == 0 {
		other = alias("a" + string(other))
	}
	switch rnd.IntN(14) {
	case 0, 1:
		_, _ = s.Join(ctx, me, "r", session.As{})
	case 2, 3, 4:
		_, _ = s.Join(ctx, me, "r", as("a"+string(me.Node)))
	case 5, 6:
		_, _ = s.Leave(ctx, me, "r")
	case 7:
		_, _ = s.Kick(ctx, theApp, "r", other)
	case 8:
		_, _ = s.Reveal(ctx, me, "r")
	case 9:
		_, _ = s.Transfer(ctx, theApp, "r", other)
	case 10:
		_, _ = s.Appoint(ctx, theApp, "r", other)
	case 11:
		_, _ = s.SetHeader(ctx, theApp, "r", fmt.Append(nil, rnd.IntN(1000)))
	case 12:
		_, _ = s.Succeed(ctx, "r", uint64(rnd.IntN(10)), connected("d1", alias("ad2")))
	case 13:
		_, _ = s.Update(ctx, theApp, "r", envelope.Settings{MemberLimit: new(2 + rnd.IntN(4))})
	}
}

// checkRows completes what was begun in session r and compares its rows with its log.
func (w *world) checkRows(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	for i := range 4 {
		if _, err := w.Of(ctx, envelope.NodeID(fmt.Sprint("d", i))); err != nil {
			t.Fatal(err)
		}
	}
	ses, err := w.Succeed(ctx, "r", 0, connected("d1"))
	if err != nil {
		t.Fatal(err)
	}
	headers, err := w.Headers(ctx, []envelope.SessionID{"r"})
	if err != nil {
		t.Fatal(err)
	}
	rows, err := w.store.Members(ctx, "r")
	if err != nil {
		t.Fatal(err)
	}
	device, said := make(map[envelope.NodeID]envelope.NodeID), make(map[envelope.NodeID]string)
	for _, m := range rows {
		device[m.Node] = m.Device
		for _, stay := range m.Spans {
			said[m.Node] += fmt.Sprint(" ", stay.From, "-", stay.Until)
		}
	}

	type stay struct {
		name envelope.NodeID
		from uint64
	}
	in, logged := make(map[envelope.NodeID]stay), make(map[envelope.NodeID]string)
	master, header := envelope.NodeID("d0"), ""
	for _, e := range w.log(t) {
		is := in[device[e.SrcNode]]
		switch e.Type {
		case envelope.TypeJoined:
			if is.name != "" {
				t.Errorf("%d: %s joins, who is in as %s", e.Seq, e.SrcNode, is.name)
			}
			in[device[e.SrcNode]] = stay{e.SrcNode, e.Seq}
		case envelope.TypeLeft, envelope.TypeAnonymityEnded:
			if is.name != e.SrcNode {
				t.Errorf("%d: note %d of %s, who is in as %q", e.Seq, e.Type, e.SrcNode, is.name)
			}
			if e.Type == envelope.TypeLeft {
				logged[e.SrcNode] += fmt.Sprint(" ", is.from, "-", e.Seq)
				delete(in, device[e.SrcNode])
			}
		case envelope.TypeMaster:
			master, _ = session.NewMaster(&e)
		case envelope.TypeHeader:
			header = string(e.Body)
		}
	}
	for _, is := range in {
		logged[is.name] += fmt.Sprint(" ", is.from, "-0")
	}
	for name := range device {
		if said[name] != logged[name] {
			t.Errorf("the stays of %s are%s, in the log%s", name, said[name], logged[name])
		}
	}
	if len(in) > 5 {
		t.Errorf("%d are in, more than there ever were seats", len(in))
	}
	if ses.Master != master || master != "" && in[device[master]].name != master {
		t.Errorf("the master is %q, in the log %q; in are %v", ses.Master, master, in)
	}
	if h := headers["r"]; header != "" && header != `"payload":`+string(h.Payload) {
		t.Errorf("the header is %s, in the log %s", h.Payload, header)
	}
}
