package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// poll makes one poll. It returns what was answered, or the status that refused.
func (m *mesh) poll(device, at, cursors, wait string) (frames []json.RawMessage, next string, err error) {
	r, err := http.NewRequestWithContext(m.t.Context(), http.MethodGet,
		"http://"+at+"/v1/poll?cursors="+cursors+"&wait="+wait, nil)
	if err != nil {
		return nil, "", err
	}
	r.Header.Set("Authorization", "Bearer "+m.mint(device, device, time.Hour))
	resp, err := m.network.Client().Do(r)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, "", errors.New(resp.Status)
	}
	var answer struct {
		Frames  []json.RawMessage `json:"frames"`
		Cursors string            `json:"cursors"`
	}
	err = json.NewDecoder(resp.Body).Decode(&answer)
	return answer.Frames, answer.Cursors, err
}

func TestPoll(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		alice := m.client("alice", "a").connected(m)
		for i := range 150 {
			alice.send(to(deviceAddr("bob"), fmt.Sprint(i), fmt.Sprint(i)))
		}
		poll := func(at, cursors, wait string, want int) string {
			t.Helper()
			frames, next, err := m.poll("bob", at, cursors, wait)
			if err != nil || len(frames) != want {
				t.Fatalf("%d frames, %v; want %d", len(frames), err, want)
			}
			return next
		}
		first := poll("b", "", "0s", 100)
		if again := poll("a", "", "0s", 100); again != first {
			t.Errorf("not acknowledged, cursors %q became %q", first, again)
		}
		rest := poll("a", first, "0s", 50)
		start := time.Now()
		if same := poll("b", rest, "20s", 0); same != rest || time.Since(start) != 20*time.Second {
			t.Errorf("after %v, cursors %q became %q", time.Since(start), rest, same)
		}
		time.AfterFunc(5*time.Second, func() { alice.send(to(user("bob"), "u", "live")) })
		start = time.Now()
		live := poll("b", rest, "20s", 1)
		if took := time.Since(start); took > 6*time.Second {
			t.Errorf("a live message took %v", took)
		}
		m.settle() // alice hears that it was stored
		poll("a", live, "0s", 0)
		poll("a", "", "0s", 0) // what a poll begins from is acknowledged
		for _, bad := range []string{"x", "-1s", "1h"} {
			if _, _, err := m.poll("bob", "a", "", bad); err == nil || !strings.HasPrefix(err.Error(), "400") {
				t.Errorf("wait=%s: %v", bad, err)
			}
		}
	})
}

// The newest poll of a device is the one that is served.
func TestPollReplaced(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, _, err := m.poll("bob", "a", "", "30s"); err == nil || !strings.HasPrefix(err.Error(), "409") {
				t.Errorf("the older poll: %v", err)
			}
		})
		pass(time.Second)
		if frames, _, err := m.poll("bob", "b", "", "5s"); err != nil || len(frames) != 0 {
			t.Errorf("the newer poll: %d frames, %v", len(frames), err)
		}
		wg.Wait()
	})
}

// replaceServers kills one server after the other and starts it again.
func (m *mesh) replaceServers() {
	for _, id := range m.ids() {
		time.Sleep(3 * time.Second)
		m.kill(id)
		time.Sleep(2 * time.Second)
		m.start(id)
	}
}

// received notes the messages of one log that a client gets.
type received struct{ fresh, repeated int }

// add notes a message: one beyond the next shows a loss.
func (y *received) add(t testing.TB, e envelope.Envelope) {
	switch next := uint64(y.fresh + 1); {
	case e.Seq == next:
		y.fresh++
	case e.Seq < next:
		y.repeated++
	default:
		t.Errorf("got %d where %d comes next", e.Seq, next)
		y.fresh = int(e.Seq)
	}
}

// whileReplaced has messages sent to a device while all servers are replaced.
// receive gets some of them, from the nth server or whichever it is by then.
func whileReplaced(t *testing.T, device string, receive func(m *mesh, n int, y *received)) received {
	var y received
	inMesh(t, 3, func(t *testing.T, m *mesh) {
		const messages = 200
		alice := m.device("alice", "alice").connected(m) // at any server
		var wg sync.WaitGroup
		wg.Go(func() {
			for i := range messages {
				alice.send(to(deviceAddr(device), fmt.Sprint(i), fmt.Sprint(i)))
				time.Sleep(100 * time.Millisecond)
			}
		})
		wg.Go(func() {
			start := time.Now()
			for n := 0; y.fresh < messages && time.Since(start) < 5*time.Minute; n++ {
				receive(m, n%3, &y)
				time.Sleep(50 * time.Millisecond)
			}
		})
		m.replaceServers()
		wg.Wait()
		if y.fresh != messages {
			t.Errorf("got %d of %d", y.fresh, messages)
		}
	})
	return y
}

// A client that polls, at whichever server there is, loses nothing while all
// servers are replaced one after the other.
func TestPollWhileServersAreReplaced(t *testing.T) {
	parser := envelope.Parser{From: envelope.FromServer}
	cursors := ""
	y := whileReplaced(t, "bob", func(m *mesh, n int, y *received) {
		frames, next, err := m.poll("bob", string(rune('a'+n)), cursors, "2s")
		if err != nil {
			return
		}
		for _, f := range frames {
			if e, err := parser.Parse(f); err == nil && e.Seq > 0 { // else a control frame
				y.add(t, e)
			}
		}
		cursors = next
	})
	if y.repeated > 0 {
		t.Errorf("%d came again", y.repeated)
	}
}

// Nor does one with a stream. Where each event has an id, nothing comes twice.
func TestStreamWhileServersAreReplaced(t *testing.T) {
	for _, device := range []string{"bob", strings.Repeat("a-long-name-", 10)} {
		id := ""
		y := whileReplaced(t, device, func(m *mesh, n int, y *received) {
			s, err := m.tryEvents(device, string(rune('a'+n)), id)
			if err != nil {
				return
			}
			defer s.close()
			for {
				e, err := s.next(4 * time.Second)
				if err != nil {
					break
				}
				if e.kind == "message" {
					y.add(t, e.msg)
				}
			}
			id = s.id
		})
		if y.repeated > 0 && device == "bob" {
			t.Errorf("%d came again", y.repeated)
		}
	}
}
