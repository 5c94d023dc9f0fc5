package node

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// get makes a GET request of a device to a server. The answer's body ends with ctx.
func (m *mesh) get(ctx context.Context, device, at, pathAndQuery string, header ...string) *http.Response {
	m.t.Helper()
	resp, err := m.tryGet(ctx, device, at, pathAndQuery, header...)
	if err != nil {
		m.t.Fatal(err)
	}
	return resp
}

func (m *mesh) tryGet(ctx context.Context, device, at, pathAndQuery string, header ...string) (*http.Response, error) {
	m.t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+at+pathAndQuery, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+m.mint(device, device, time.Hour))
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return m.network.Client().Do(r)
}

// events is a reader of server-sent events, as WHATWG HTML has it.
type events struct {
	t      testing.TB
	resp   *http.Response
	lines  *bufio.Reader
	cancel context.CancelFunc
	id     string // the last event id
	parser envelope.Parser
}

// streamEvent is one event; frame is what is in its data, if it is a frame.
type streamEvent struct {
	frame
	kind, data string
}

// events opens the stream of a device of a client of the same name.
func (m *mesh) events(device, at, lastEventID string) *events {
	m.t.Helper()
	time.Sleep(time.Millisecond) // of two connections made at the same moment any may be the newer
	s, err := m.tryEvents(device, at, lastEventID)
	if err != nil {
		m.t.Fatal(err)
	}
	return s
}

func (m *mesh) tryEvents(device, at, lastEventID string) (*events, error) {
	m.t.Helper()
	var header []string
	if lastEventID != "" {
		header = []string{"Last-Event-ID", lastEventID}
	}
	ctx, cancel := context.WithCancel(m.t.Context())
	resp, err := m.tryGet(ctx, device, at, "/v1/stream", header...)
	if err != nil {
		cancel()
		return nil, err
	}
	if resp.StatusCode == http.StatusServiceUnavailable {
		cancel()
		return nil, errors.Join(errors.New(resp.Status), resp.Body.Close())
	}
	return m.eventsOf(resp, cancel, lastEventID), nil
}

func (m *mesh) eventsOf(resp *http.Response, cancel context.CancelFunc, id string) *events {
	m.t.Helper()
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" ||
		resp.Header.Get("Cache-Control") != "no-store" || resp.Header.Get("X-Accel-Buffering") != "no" {
		m.t.Fatalf("stream: %s, %v", resp.Status, resp.Header)
	}
	s := &events{t: m.t, resp: resp, lines: bufio.NewReader(resp.Body), cancel: cancel, id: id}
	s.parser.From = envelope.FromServer
	return s
}

func (s *events) close() { s.cancel(); _ = s.resp.Body.Close() }

// next reads an event within d; io.EOF at the end. A failure ends the stream.
func (s *events) next(d time.Duration) (streamEvent, error) {
	defer time.AfterFunc(d, s.cancel).Stop()
	var e streamEvent
	var data []string
	for {
		line, err := s.lines.ReadString('\n')
		if err != nil {
			return streamEvent{}, err
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "\n" && len(data) == 0: // an id alone, or nothing
		case line == "\n":
			e.data = strings.Join(data, "\n")
			e.frame.text = e.data
			if e.kind == "close" {
				return e, nil
			}
			var err error
			e.msg, err = s.parser.Parse([]byte(e.data))
			if errors.Is(err, envelope.ErrControl) {
				e.ctl, err = envelope.ParseControl([]byte(e.data))
			}
			if want := map[bool]string{true: "message", false: "control"}[e.ctl.Control == ""]; err != nil || e.kind != want {
				s.t.Fatalf("an event of type %q with %q: %v", e.kind, e.data, err)
			}
			return e, nil
		case name == "event":
			e.kind = value
		case name == "data":
			data = append(data, value)
		case name == "id":
			s.id = value
		}
	}
}

func (s *events) control(name string) envelope.Control {
	s.t.Helper()
	e, err := s.next(time.Minute)
	if err != nil || e.ctl.Control != name {
		s.t.Fatalf("got %q, %v; want %s", e.data, err, name)
	}
	return e.ctl
}

func (s *events) message(want string) streamEvent {
	s.t.Helper()
	e, err := s.next(time.Minute)
	if err != nil || e.kind != "message" || text(e.msg) != want {
		s.t.Fatalf("got %.200q, %v; want the message %.200q", e.data, err, want)
	}
	return e
}

// closed reads until the last event and returns its close code; the response
// must end behind it, and well.
func (s *events) closed() int {
	s.t.Helper()
	for {
		e, err := s.next(5 * time.Minute)
		if err != nil {
			s.t.Fatalf("the stream ended without a word: %v", err)
		}
		if e.kind != "close" {
			continue
		}
		if e, err := s.next(time.Minute); err != io.EOF {
			s.t.Errorf("%q, %v behind the last event", e.data, err)
		}
		var bye struct {
			CloseCode int `json:"close_code"`
		}
		if err := json.Unmarshal([]byte(e.data), &bye); err != nil {
			s.t.Error(err)
		}
		return bye.CloseCode
	}
}

// A stream carries the same frames as a WebSocket.
func TestStream(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		alice := m.client("alice", "a").connected(m)
		alice.send(to(deviceAddr("bob"), "1", "before"))
		s := m.events("bob", "b", "")
		if hello := s.control("hello"); hello.NodeID != "b" || hello.Heads["node:bob"] != 1 {
			t.Errorf("hello %+v", hello)
		}
		s.message("before")
		s.control("caught_up")
		e := to(deviceAddr("bob"), "2", "after")
		e.Body = append(e.Body, ",\"x\":{\n  \"y\":\t1 }"...)
		alice.send(e)
		streamed := s.message("after")
		volatile := to(deviceAddr("bob"), "", "tick")
		volatile.Class = envelope.Volatile
		alice.send(volatile)
		s.message("tick")
		s.close()
		m.within(time.Second, "the stream is over", func() bool { return m.at("b").Connections() == 0 })

		r := m.raw("bob", "a")
		r.hello(`,"cursors":{"node:bob":1}`)
		f, err := r.next(time.Second)
		if err != nil || f.text != streamed.data {
			t.Errorf("streamed %q, and on a WebSocket %q, %v", streamed.data, f.text, err)
		}
	})
}

// Whoever comes back with the last event's id, at any server, gets what it has
// not had, and each message once.
func TestStreamResumesElsewhere(t *testing.T) {
	inMesh(t, 3, func(t *testing.T, m *mesh) {
		alice := m.client("alice", "a").connected(m)
		if _, err := alice.CreateSession(t.Context(), "r", envelope.Settings{}); err != nil {
			t.Fatal(err)
		}
		if _, err := m.api("bob", "bob", "c").JoinSession(t.Context(), "r"); err != nil {
			t.Fatal(err)
		}
		logs := []envelope.Address{deviceAddr("bob"), user("bob"), room("r")}
		sent, id := 0, ""
		got := make(map[envelope.Address][]uint64)
		for round := range 12 {
			for range 7 {
				alice.send(to(logs[sent%3], fmt.Sprint(sent), fmt.Sprint(sent)))
				sent++
			}
			s := m.events("bob", m.ids()[round%3], id)
			s.control("hello")
			for range round { // away in the middle of it
				e, err := s.next(time.Second)
				if err != nil {
					break
				}
				if e.kind == "message" {
					got[e.msg.Dest()] = append(got[e.msg.Dest()], e.msg.Seq)
				}
			}
			id = s.id
			s.close()
		}
		s := m.events("bob", "a", id)
		for caughtUp := false; !caughtUp; {
			e, err := s.next(time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			if caughtUp = e.ctl.Control == "caught_up"; e.kind == "message" {
				got[e.msg.Dest()] = append(got[e.msg.Dest()], e.msg.Seq)
			}
		}
		id = s.id
		s.close()
		for _, log := range logs {
			for i, seq := range got[log] {
				if first := got[log][0]; seq != first+uint64(i) {
					t.Errorf("%v: got %d", log, got[log])
					break
				}
			}
		}
		if n := len(got[logs[0]]) + len(got[logs[1]]) + len(got[logs[2]]); n != sent {
			t.Errorf("got %d of %d", n, sent)
		}

		// The id has acknowledged: without one nothing comes again.
		s = m.events("bob", "b", id)
		s.control("hello")
		s.control("caught_up")
		s.close()
		pass(3 * time.Second)
		s = m.events("bob", "c", "")
		s.control("hello")
		s.control("caught_up")
		s.close()
	})
}

// A position of another store, or beyond a log's head, is answered with a gap.
func TestStreamPositionMeansNothing(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		alice := m.client("alice", "a").connected(m)
		alice.send(to(deviceAddr("bob"), "1", "one"))
		s := m.events("bob", "a", "ANOTHER~nbob~7")
		s.control("hello")
		s.control("gap")
		s.message("one")
		s.control("caught_up")
		epoch, rest, _ := strings.Cut(s.id, "~")
		if epoch != m.at("a").epoch || rest != "nbob~1" {
			t.Errorf("the id is %q", s.id)
		}
		s.close()
		s = m.events("bob", "a", epoch+"~nbob~100")
		s.control("hello")
		s.control("gap")
		s.message("one")
		s.close()
		resp := m.get(t.Context(), "bob", "a", "/v1/stream", "Last-Event-ID", "garbage~")
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("a position that is none: %s", resp.Status)
		}
		_ = resp.Body.Close()
	})
}

// EventSource cannot set headers: a validation token stands in the query.
func TestStreamWithToken(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		open := func(query string) *http.Response {
			t.Helper()
			resp, err := m.network.Client().Get("http://a/v1/stream?" + query)
			if err != nil {
				t.Fatal(err)
			}
			return resp
		}
		m.client("alice", "a").connected(m).send(to(deviceAddr("bob"), "1", "one"))
		query := "token=" + url.QueryEscape(m.ticket("bob", "bob", "a"))
		resp := open(query + "&last_event_id=" + m.at("a").epoch + "~nbob~1")
		s := m.eventsOf(resp, func() { _ = resp.Body.Close() }, "")
		s.control("hello")
		s.control("caught_up")
		s.close()
		for _, bad := range []string{query, "", "token=x"} {
			resp := open(bad)
			if resp.StatusCode != http.StatusUnauthorized || resp.Header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("?%.10s: %s", bad, resp.Status)
			}
			_ = resp.Body.Close()
		}
	})
}

// How a stream ends: with an event that says so, and an end of the response.
func TestStreamEnds(t *testing.T) {
	inMesh(t, 2, func(t *testing.T, m *mesh) {
		s := m.events("bob", "a", "")
		s.control("hello")
		s.control("caught_up")
		pass(time.Second) // so that it is sure which connection is the newer one
		m.raw("bob", "b").hello("")
		if code := s.closed(); code != envelope.Replaced.CloseCode() {
			t.Errorf("replaced: closed with %d", code)
		}

		ctx, cancel := context.WithCancel(t.Context())
		s = m.eventsOf(m.get(ctx, "carl", "a", "/v1/stream", "Authorization", "Bearer "+m.mint("carl", "carl", time.Minute)), cancel, "")
		start := time.Now()
		if code := s.closed(); code != envelope.Unauthorized.CloseCode() || time.Since(start) > 2*time.Minute {
			t.Errorf("expired: closed with %d after %v", code, time.Since(start))
		}
		cancel()

		s = m.events("dora", "a", "")
		s.control("hello")
		s.control("caught_up")
		draining, done := context.WithTimeout(t.Context(), 20*time.Second)
		defer done()
		var drained sync.WaitGroup
		drained.Go(func() { m.at("a").Drain(draining) })
		defer drained.Wait()
		if c := s.control("reconnect"); len(c.Nodes) != 1 {
			t.Errorf("reconnect %+v", c)
		}
		if code := s.closed(); code != envelope.GoingAway.CloseCode() {
			t.Errorf("drained: closed with %d", code)
		}
	})
}

// A stream that is silent shows life, and says how far the client is when it
// still owes that.
func TestStreamKeepAlive(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		long := strings.Repeat("a-device-with-a-long-name-", 4)
		alice := m.client("alice", "a").connected(m)
		s := m.events(long, "a", "")
		s.control("hello")
		s.control("caught_up")
		alice.send(to(deviceAddr(long), "1", "x"))
		alice.send(to(user(long), "2", "y"))
		s.message("x")
		s.message("y")
		start := time.Now()
		var lines []string
		for len(lines) < 4 {
			line, err := s.lines.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			lines = append(lines, line)
		}
		want := []string{"id: " + m.at("a").epoch + "~n" + long + "~1~c" + long + "~1\n", "\n", ":\n", "\n"}
		if took := time.Since(start); !slices.Equal(lines, want) || took < 20*time.Second || took > 40*time.Second {
			t.Errorf("after %v: %q", took, lines)
		}
		s.close()
	})
}

func TestStreamSlowReader(t *testing.T) {
	inMesh(t, 1, func(t *testing.T, m *mesh) {
		const messages = 1500
		filler := strings.Repeat("x", 2000)
		alice := m.client("alice", "a").connected(m)
		s := m.events("slow", "a", "")
		s.control("hello")
		s.control("caught_up")
		for i := range messages {
			alice.send(to(deviceAddr("slow"), fmt.Sprint(i), filler))
			if frames, bytes := m.at("a").queued("slow"); frames > windowMessages || bytes > windowBytes+16<<10 {
				t.Fatalf("after %d messages %d frames of %d bytes wait", i+1, frames, bytes)
			}
		}
		time.Sleep(30 * time.Second) // less than Stall, more than a keep-alive
		for i := range messages {
			if e := s.message(filler); e.msg.Seq != uint64(i+1) {
				t.Fatalf("message %d has seq %d", i, e.msg.Seq)
			}
		}
		// And one that makes no progress at all is closed, here as anywhere.
		for i := range 10 {
			alice.send(to(deviceAddr("slow"), fmt.Sprint("more", i), filler))
		}
		m.within(2*time.Minute, "closed", func() bool { return m.at("a").Connections() == 1 })
		if n := m.at("a").Stats().ClosedSlow.Load(); n != 1 {
			t.Errorf("%d connections closed as slow", n)
		}
		s.close()
	})
}
