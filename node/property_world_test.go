package node

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway/native"
)

// world is a mesh in which random devices live while things break.
type world struct {
	*history
	t *testing.T
	m *mesh
	p plan

	mu      sync.Mutex        // guards what follows, and m.servers against who dials while they come and go
	devices []envelope.NodeID // all there have ever been
	floors  map[envelope.Address]uint64
	calm    chan struct{} // closed when nothing breaks any more
}

// plan says how much happens in a world.
type plan struct {
	users   int // each with one or two devices on plain connections
	clients int // and so many devices with the Go client, of further users
	rooms   int
	lives   int           // connections of each device
	acts    int           // at most, in each life
	faults  bool          // things break
	lag     time.Duration // see checker
}

var (
	fullPlan  = plan{users: 4, clients: 2, rooms: 3, lives: 6, acts: 10, faults: true, lag: 2 * time.Minute}
	quietPlan = plan{users: 3, clients: 2, rooms: 1, lives: 3, acts: 12, lag: 5 * time.Second}
)

// live runs a world to its end and returns what is wrong with its history.
func (m *mesh) live(t *testing.T, p plan, seed uint64) []string {
	w := &world{history: new(history), t: t, m: m, p: p, floors: map[envelope.Address]uint64{}, calm: make(chan struct{})}
	for i := range p.rooms {
		if _, err := m.api("owner", "owner", "a").CreateSession(t.Context(), roomName(i), envelope.Settings{}); err != nil {
			t.Fatal(err)
		}
	}
	var lives, all sync.WaitGroup
	start := func(n int, life func(r *rand.Rand)) {
		lives.Add(1)
		all.Go(func() { life(rand.New(rand.NewPCG(seed, uint64(n)))) })
	}
	n := 0
	for i := range p.users {
		for j := range 1 + i%2 {
			n++
			start(n, func(r *rand.Rand) {
				newWalker(w, userName(i), fmt.Sprint("w", i, "-", j), r).live(lives.Done)
			})
		}
	}
	for i := range p.clients {
		n++
		start(n, func(r *rand.Rand) {
			(&rider{w: w, user: userName(p.users + i), id: envelope.NodeID(fmt.Sprint("c", i)), r: r}).live(lives.Done)
		})
	}
	over := make(chan struct{})
	go func() { lives.Wait(); close(over) }()
	w.breakThings(rand.New(rand.NewPCG(seed, 0)), over)
	close(w.calm)
	all.Wait()
	w.auditAll()
	t.Log(tally(w.all()))
	faults := check(w.all(), p.lag)
	if len(faults) > 0 && os.Getenv("ALLSPARK_TEST_LOG") != "" {
		for _, e := range w.all() {
			t.Logf("%v %+v", e.at.Format("04:05.000"), e)
		}
	}
	return faults
}

// tally says how much happened.
func tally(events []event) string {
	var n [evAudited + 1]int
	again, volatile := 0, 0
	seen := make(map[post]bool)
	for _, e := range events {
		n[e.what]++
		if e.what == evGot && e.seq == 0 {
			volatile++
		}
		if key := (post{e.device, e.log, e.id}); e.what == evSent && e.id != "" {
			if seen[key] {
				again++
			}
			seen[key] = true
		}
	}
	return fmt.Sprintf("%d sends, %d of them again; %d acks, %d refusals; %d received, %d of them volatile; %d streams, %d gaps, %d joins, %d leaves, %d trims, in %v",
		n[evSent], again, n[evAcked], n[evRefused], n[evGot], volatile, n[evOpened], n[evGapped], n[evJoined], n[evLeft], n[evTrimmed],
		events[len(events)-1].at.Sub(events[0].at).Round(time.Second))
}

func roomName(i int) envelope.SessionID { return envelope.SessionID(fmt.Sprint("r", i)) }
func userName(i int) envelope.ClientID  { return envelope.ClientID(fmt.Sprint("u", i)) }

// born notes a device, so that others can write to it.
func (w *world) born(id envelope.NodeID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.devices = append(w.devices, id)
}

// anybody picks an address of any kind.
func (w *world) anybody(r *rand.Rand, rooms []envelope.SessionID) envelope.Address {
	switch n := r.IntN(6); {
	case n < 3 && len(rooms) > 0:
		return rooms[r.IntN(len(rooms))].Address()
	case n < 5:
		return userName(r.IntN(w.p.users + w.p.clients)).Address()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.devices[r.IntN(len(w.devices))].Address()
}

// up names a server that runs.
func (w *world) up(r *rand.Rand) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	ids := w.m.ids()
	return ids[r.IntN(len(ids))]
}

// dial opens a plain connection of a device to a server.
func (w *world) dial(ctx context.Context, user envelope.ClientID, id envelope.NodeID, at string) (*websocket.Conn, error) {
	w.mu.Lock()
	s := w.m.servers[at]
	w.mu.Unlock()
	if s == nil {
		return nil, fmt.Errorf("%s is down", at)
	}
	token, _, err := s.tickets.Issue(envelope.ServerID(at), s.graph.Boot(), auth.Verified{
		Principal: envelope.Principal{Node: id, Client: user}, Issued: time.Now(), Expires: time.Now().Add(time.Hour),
	})
	if err != nil {
		return nil, err
	}
	ws, _, err := websocket.Dial(ctx, "ws://"+at+"/ws", &websocket.DialOptions{
		HTTPClient: w.m.network.Client(), Subprotocols: []string{native.Subprotocol, "bearer." + token},
	})
	if err == nil {
		ws.SetReadLimit(-1)
	}
	return ws, err
}

// api returns HTTP calls of a device to a server.
func (w *world) api(user envelope.ClientID, id envelope.NodeID, at string) *client.API {
	return &client.API{
		Servers: []string{"http://" + at}, HTTPClient: w.m.network.Client(),
		AuthKey: func(context.Context) (string, error) { return w.m.mint(string(user), string(id), 24*time.Hour), nil },
	}
}

func (w *world) clientOptions(user envelope.ClientID, id envelope.NodeID, r *rand.Rand) client.Options {
	return client.Options{
		Servers: []string{"http://a", "http://b", "http://c"}, AuthKey: w.m.mint(string(user), string(id), 24*time.Hour),
		HTTPClient: &http.Client{Transport: w.m.network.Client().Transport}, Rand: rand.NewPCG(r.Uint64(), 1),
	}
}

// member joins or leaves a room, which must succeed some time.
func (w *world) member(user envelope.ClientID, id envelope.NodeID, room envelope.SessionID, join bool, r *rand.Rand) {
	what := evLeft
	if join {
		what = evJoined
		w.note(event{what: evJoining, device: id, log: room.Address()})
	}
	for range 40 {
		api := w.api(user, id, w.up(r))
		call := api.LeaveSession
		if join {
			var by []client.JoinOption
			if masked(id, room) {
				by = append(by, client.Anonymously(string(id)))
			}
			call = func(ctx context.Context, room envelope.SessionID) (client.Membership, error) {
				return api.JoinSession(ctx, room, by...)
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		m, err := call(ctx, room)
		cancel()
		if err == nil {
			w.note(event{what: what, device: id, log: room.Address(), seq: m.Seq})
			return
		}
		time.Sleep(time.Second)
	}
	w.note(event{what: evStuck, device: id, text: fmt.Sprint("cannot join or leave ", room)})
}

// breakThings breaks one thing after the other and mends it again, until over.
func (w *world) breakThings(r *rand.Rand, over <-chan struct{}) {
	var mend []func() // what is broken now
	down := false
	for {
		select {
		case <-over:
			for _, f := range mend {
				f()
			}
			w.m.linked()
			return
		case <-time.After(time.Duration(r.IntN(2000)) * time.Millisecond):
		}
		if len(mend) > r.IntN(3) {
			mend[0]()
			mend = mend[1:]
		}
		if !w.p.faults {
			w.auditOne(r)
			continue
		}
		pair := []string{"ab", "bc", "ac"}[r.IntN(3)]
		x, y, id := pair[:1], pair[1:], w.up(r)
		switch r.IntN(12) {
		case 0, 1: // a server dies, or leaves in peace
			if down {
				continue
			}
			down = true
			if r.IntN(2) == 0 {
				ctx, cancel := context.WithTimeout(context.Background(), 8*time.Second)
				w.m.at(id).Drain(ctx)
				cancel()
			}
			w.kill(id)
			mend = append(mend, func() {
				w.start(id)
				down = false
			})
		case 2:
			w.m.cut(x, y)
			mend = append(mend, func() { w.m.heal(x, y) })
		case 3:
			w.m.peers.jam(x, y, true)
			mend = append(mend, func() { w.m.peers.jam(x, y, false) })
		case 4:
			w.m.peers.reset(id)
		case 5: // a server's way to the store fails every now and then
			s := w.m.at(id)
			refuse := refuseSome(rand.New(rand.NewPCG(r.Uint64(), 1)))
			s.store.set(func(f *faultyStore) { f.append = refuse })
			mend = append(mend, func() { s.store.set(func(f *faultyStore) { f.append = nil }) })
		case 6: // or is slow
			s := w.m.at(id)
			s.slowly(r, 200*time.Millisecond)
			mend = append(mend, func() { s.store.set(func(f *faultyStore) { f.delay = nil }) })
		case 7: // or answers no questions
			s := w.m.at(id)
			s.store.set(func(f *faultyStore) { f.before = func(string) error { return errAway } })
			time.Sleep(time.Duration(r.IntN(3000)) * time.Millisecond)
			s.store.set(func(f *faultyStore) { f.before = nil })
		default:
			w.trim(r)
		}
		w.auditOne(r)
	}
}

// kill is mesh.kill while others look for servers.
func (w *world) kill(id string) {
	w.mu.Lock()
	s := w.m.servers[id]
	delete(w.m.servers, id)
	w.mu.Unlock()
	s.store.kill()
	w.m.peers.kill(id)
	s.abort()
	s.end()
}

func (w *world) start(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.m.start(id)
}

// logs returns every address that has ever been written to.
func (w *world) logs() []envelope.Address {
	var logs []envelope.Address
	for i := range w.p.rooms {
		logs = append(logs, roomName(i).Address())
	}
	for i := range w.p.users + w.p.clients {
		logs = append(logs, userName(i).Address())
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range w.devices {
		logs = append(logs, id.Address())
	}
	return logs
}

// audit reads a whole log.
func (w *world) audit(log envelope.Address) []entry {
	var all []entry
	for after := uint64(0); ; {
		page, err := w.m.store.Read(context.Background(), log, after, 1000, 1<<20)
		if err != nil {
			w.t.Errorf("audit of %v: %v", log, err)
			break
		}
		if len(page) == 0 {
			break
		}
		for i := range page {
			all = append(all, entryOf(&page[i]))
		}
		after = page[len(page)-1].Seq
	}
	w.note(event{what: evAudited, log: log, pages: all})
	return all
}

func (w *world) auditOne(r *rand.Rand) {
	logs := w.logs()
	w.audit(logs[r.IntN(len(logs))])
}

func (w *world) auditAll() {
	for _, log := range w.logs() {
		w.audit(log)
	}
}

// trim makes the store forget the beginning of a log.
func (w *world) trim(r *rand.Rand) {
	logs := w.logs()
	log := logs[r.IntN(len(logs))]
	all := w.audit(log)
	if len(all) < 2 {
		return
	}
	floor := all[r.IntN(len(all))].seq
	w.note(event{what: evTrimmed, log: log, seq: floor})
	if err := w.m.store.Trim(context.Background(), log, floor, time.Time{}); err != nil {
		w.t.Errorf("trim of %v: %v", log, err)
	}
}
