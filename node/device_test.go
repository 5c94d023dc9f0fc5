package node

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway/native"
)

// device is a device with the Go client; it notes what it receives.
type device struct {
	*client.Client
	t    testing.TB
	done sync.WaitGroup

	mu   sync.Mutex
	got  []client.Message
	each func(client.Message) // of each message as well; set before it comes
}

// device starts a device of a client. Without a server named it takes any.
func (m *mesh) device(clientID, id string, at ...string) *device {
	m.t.Helper()
	return m.deviceWith(clientID, id, client.Options{}, at...)
}

func (m *mesh) deviceWith(clientID, id string, o client.Options, at ...string) *device {
	m.t.Helper()
	o.AuthKey = m.mint(clientID, id, 24*time.Hour)
	o.HTTPClient = &http.Client{Transport: &pinned{m.network.Client().Transport, at}}
	o.Rand = rand.NewPCG(1, 2)
	for _, s := range at {
		o.Servers = append(o.Servers, "http://"+s)
	}
	if len(at) == 0 {
		for _, s := range m.ids() {
			o.Servers = append(o.Servers, "http://"+s)
		}
	}
	c, err := client.New(o)
	if err != nil {
		m.t.Fatal(err)
	}
	d := &device{Client: c, t: m.t}
	d.done.Go(func() {
		for msg, err := range c.Messages(context.Background()) {
			if err != nil {
				return
			}
			d.mu.Lock()
			d.got = append(d.got, msg)
			each := d.each
			d.mu.Unlock()
			if each != nil {
				each(msg)
			}
		}
	})
	m.devices = append(m.devices, d)
	return d
}

// connected waits until the device is.
func (d *device) connected(m *mesh) *device {
	d.t.Helper()
	m.within(10*time.Second, "connected", func() bool { return d.State() == client.Connected })
	return d
}

func (d *device) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = d.Close(ctx)
	d.done.Wait()
}

// send sends a message and waits until it is acknowledged.
func (d *device) send(e envelope.Envelope) client.Ack {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), 2*time.Minute)
	defer cancel()
	ack, err := d.Send(ctx, e)
	if err != nil {
		d.t.Fatalf("send: %v", err)
	}
	return ack
}

// messages returns what was received so far.
func (d *device) messages() []client.Message {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]client.Message(nil), d.got...)
}

// texts returns the texts of what was received so far.
func (d *device) texts() []string {
	var all []string
	for _, m := range d.messages() {
		all = append(all, text(m.Envelope))
	}
	return all
}

// text returns what to put into a message.
func text(e envelope.Envelope) string {
	var body struct {
		Payload string `json:"payload"`
	}
	_ = json.Unmarshal([]byte("{"+string(e.Body)+"}"), &body)
	return body.Payload
}

// pinned answers the pre-connection call with the servers wanted only, so that
// a test decides where a device connects.
type pinned struct {
	http.RoundTripper
	at []string
}

func (p *pinned) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := p.RoundTripper.RoundTrip(r)
	if err != nil || len(p.at) == 0 || r.URL.Path != "/v1/connect" || resp.StatusCode != http.StatusOK {
		return resp, err
	}
	var reply struct {
		Servers   []json.RawMessage `json:"servers"`
		ExpiresIn int               `json:"expires_in"`
	}
	err = json.NewDecoder(resp.Body).Decode(&reply)
	_ = resp.Body.Close()
	if err != nil {
		return nil, err
	}
	kept := reply.Servers[:0]
	for _, raw := range reply.Servers {
		var s struct {
			NodeID string `json:"node_id"`
		}
		if err := json.Unmarshal(raw, &s); err != nil {
			return nil, err
		}
		for _, id := range p.at {
			if s.NodeID == id {
				kept = append(kept, raw)
			}
		}
	}
	reply.Servers = kept
	text, err := json.Marshal(reply)
	if err != nil {
		return nil, err
	}
	resp.Body = readCloser{strings.NewReader(string(text))}
	resp.ContentLength = int64(len(text))
	return resp, nil
}

type readCloser struct{ *strings.Reader }

func (readCloser) Close() error { return nil }

// raw is a connection of which a test sees every frame.
type raw struct {
	t      testing.TB
	ws     *websocket.Conn
	parser envelope.Parser
}

// raw opens a connection of a device of a client of the same name.
func (m *mesh) raw(id, at string) *raw { return m.rawDevice(id, id, at) }

func (m *mesh) rawDevice(clientID, id, at string) *raw {
	m.t.Helper()
	return m.dial("ws://"+at+"/ws", native.Subprotocol, "bearer."+m.ticket(clientID, id, at))
}

// legacy opens a connection of the older form.
func (m *mesh) legacy(id, at string) *raw {
	m.t.Helper()
	return m.dial("ws://" + at + "/connectV3?auth_key=" + m.mint(id, id, time.Hour) + "&validation_key=" + m.ticket(id, id, at))
}

func (m *mesh) dial(url string, subprotocols ...string) *raw {
	m.t.Helper()
	ws, _, err := websocket.Dial(m.t.Context(), url, &websocket.DialOptions{HTTPClient: m.network.Client(), Subprotocols: subprotocols})
	if err != nil {
		m.t.Fatal(err)
	}
	ws.SetReadLimit(-1)
	r := &raw{t: m.t, ws: ws}
	r.parser.From = envelope.FromServer
	m.raws = append(m.raws, r)
	return r
}

func (r *raw) send(frame string) {
	r.t.Helper()
	if err := r.ws.Write(r.t.Context(), websocket.MessageText, []byte(frame)); err != nil {
		r.t.Fatalf("write: %v", err)
	}
}

// hello says hello and returns the server's answer.
func (r *raw) hello(members string) envelope.Control {
	r.t.Helper()
	r.send(`{"control":"hello"` + members + `}`)
	return r.control("hello")
}

// frame is what was read: a message or a control frame.
type frame struct {
	msg  envelope.Envelope
	ctl  envelope.Control
	text string
}

// next reads a frame within d. The error tells how the connection ended, or
// context.DeadlineExceeded; the connection is of no use afterwards.
func (r *raw) next(d time.Duration) (frame, error) {
	ctx, cancel := context.WithTimeout(r.t.Context(), d)
	defer cancel()
	_, b, err := r.ws.Read(ctx)
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return frame{}, err
	}
	f := frame{text: string(b)}
	f.msg, err = r.parser.Parse(b)
	if errors.Is(err, envelope.ErrControl) {
		f.ctl, err = envelope.ParseControl(b)
	}
	return f, err
}

// control reads the next frame, which must be that control frame.
func (r *raw) control(name string) envelope.Control {
	r.t.Helper()
	f, err := r.next(time.Minute)
	if err != nil || f.ctl.Control != name {
		r.t.Fatalf("got %q, %v; want %s", f.text, err, name)
	}
	return f.ctl
}

// message reads the next frame, which must be a message with that text.
func (r *raw) message(want string) envelope.Envelope {
	r.t.Helper()
	f, err := r.next(time.Minute)
	if err != nil || f.ctl.Control != "" || text(f.msg) != want {
		r.t.Fatalf("got %.200q, %v; want the message %.200q", f.text, err, want)
	}
	return f.msg
}

// closed reads until the connection ends and returns the status; -1 without one.
func (r *raw) closed() websocket.StatusCode {
	r.t.Helper()
	for {
		if _, err := r.next(5 * time.Minute); err != nil {
			return websocket.CloseStatus(err)
		}
	}
}

// quiet fails the test when something arrives within d, and ends the connection.
func (r *raw) quiet(d time.Duration) {
	r.t.Helper()
	if f, err := r.next(d); !errors.Is(err, context.DeadlineExceeded) {
		r.t.Errorf("got %q, %v; want nothing", f.text, err)
	}
}

// api returns HTTP calls of a device to a server.
func (m *mesh) api(clientID, id, at string) *client.API {
	key := m.mint(clientID, id, 24*time.Hour)
	return &client.API{
		Servers: []string{"http://" + at}, HTTPClient: m.network.Client(),
		AuthKey: func(context.Context) (string, error) { return key, nil },
	}
}
