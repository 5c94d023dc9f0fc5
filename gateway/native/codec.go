// Package native speaks AllSpark's own protocol: JSON envelopes and control
// frames over WebSocket, and the older form of it for clients that know
// neither control frames nor a subprotocol.
package native

import (
	"errors"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
)

// Subprotocol is the name of the protocol in the WebSocket handshake.
const Subprotocol = "allspark.v2.json"

// Codec is the native form of commands and events. It has no state: any number of
// connections may share one.
type Codec struct {
	parser envelope.Parser
	legacy bool
}

// NewCodec returns the codec of one connection. Legacy clients send and get
// messages only; of the control frames they are told errors.
func NewCodec(legacy bool) *Codec {
	c := &Codec{legacy: legacy}
	if legacy {
		c.parser.From = envelope.FromLegacyClient
	}
	return c
}

// Shared implements [gateway.Codec].
func (c *Codec) Shared() string { return "native" }

// Decode implements [gateway.Codec].
func (c *Codec) Decode(frame []byte) (gateway.Command, string, error) {
	if control, cursors, ok := envelope.ParseCursors(frame); ok && !c.legacy {
		if control == envelope.ControlRead {
			return gateway.MarkRead{Cursors: cursors}, "", nil
		}
		return gateway.Acknowledge{Cursors: cursors}, "", nil
	}
	env, err := c.parser.ParseNew(frame)
	switch {
	case err == nil && c.legacy && env.HasType && env.Type == envelope.TypeConfig:
		cmd, err := decodeConfig(env)
		return cmd, env.ID, err
	case err == nil:
		return gateway.Send{Envelope: env}, env.ID, nil
	case !errors.Is(err, envelope.ErrControl):
		return nil, env.ID, err
	case c.legacy:
		return nil, env.ID, envelope.Errorf(envelope.BadRequest, "control frames need the subprotocol %s", Subprotocol)
	}
	cmd, err := control(frame)
	return cmd, "", err
}

func control(frame []byte) (gateway.Command, error) {
	c, err := envelope.ParseControl(frame)
	if err != nil {
		return nil, err
	}
	if c.ID != "" && !envelope.ValidID(c.ID) {
		return nil, envelope.Errorf(envelope.BadRequest, "id has not the form of an id")
	}
	cursors, err := c.CursorMap()
	if err != nil {
		return nil, err
	}
	switch c.Control {
	case envelope.ControlHello:
		if c.Cursors == nil {
			cursors = nil
		}
		return gateway.Hello{Cursors: cursors, Epoch: c.Epoch, FromNow: c.Resume != nil && !*c.Resume, Topics: c.Topics}, nil
	case envelope.ControlSubscribe:
		return gateway.Subscribe{ID: c.ID, Topics: c.Topics, Cursors: cursors, Epoch: c.Epoch}, nil
	case envelope.ControlUnsubscribe:
		return gateway.Unsubscribe{ID: c.ID, Topics: c.Topics}, nil
	case envelope.ControlAck:
		return gateway.Acknowledge{Cursors: envelope.PositionsOf(cursors)}, nil
	case envelope.ControlRead:
		return gateway.MarkRead{Cursors: envelope.PositionsOf(cursors)}, nil
	case envelope.ControlPresence:
		return gateway.GetPresence{Clients: c.Clients, Session: c.Session, Subscribe: c.Subscribe}, nil
	case envelope.ControlRefresh:
		return gateway.Refresh{ID: c.ID, AuthKey: c.AuthKey}, nil
	}
	return nil, envelope.Errorf(envelope.BadRequest, "a client sends the control frames hello, ack, read, presence, subscribe, unsubscribe and refresh")
}

// Append implements [gateway.Codec].
func (c *Codec) Append(dst []byte, ev gateway.Event) []byte {
	switch ev := ev.(type) {
	case gateway.Message:
		return ev.Envelope.AppendJSON(dst)
	case gateway.Ack:
		return c.AppendAck(dst, ev)
	case gateway.Refusal:
		return appendRefusal(dst, ev)
	case gateway.Pending:
		return appendConfigReply(dst, ev)
	}
	if c.legacy {
		return dst
	}
	return appendControl(dst, ev)
}

// AppendAck implements [gateway.Codec].
func (c *Codec) AppendAck(dst []byte, ack gateway.Ack) []byte {
	if c.legacy {
		return dst
	}
	w := envelope.NewControl(dst, envelope.ControlAck)
	w.ID("id", ack.ID)
	if ack.Seq != 0 {
		w.Seq("seq", ack.Seq)
		w.Log("log", ack.Log)
	}
	w.Bool("offline", ack.Offline)
	return w.End()
}

func appendRefusal(dst []byte, ev gateway.Refusal) []byte {
	control := envelope.ControlNack
	if ev.ID == "" {
		control = envelope.ControlError
	}
	w := envelope.NewControl(dst, control)
	w.Text("id", ev.ID)
	w.ID("code", string(ev.Err.Code))
	w.Number("retry_ms", ev.Err.RetryMS)
	w.Text("detail", ev.Err.Detail)
	return w.End()
}

// appendControl appends the frame of an event that legacy clients are not told.
func appendControl(dst []byte, ev gateway.Event) []byte {
	switch ev := ev.(type) {
	case gateway.Receipt:
		state := envelope.StateDelivered
		if ev.Read {
			state = envelope.StateRead
		}
		w := envelope.NewControl(dst, envelope.ControlReceipt)
		w.ID("id", ev.ID)
		w.Seq("seq", ev.Seq)
		w.Log("log", ev.Log)
		w.ID("node_id", string(ev.Node))
		w.ID("client_id", string(ev.Client))
		w.ID("state", state)
		return w.End()
	case gateway.ReadMark:
		w := envelope.NewControl(dst, envelope.ControlRead)
		w.Positions("cursors", ev.Cursors)
		return w.End()
	case gateway.Presence:
		w := envelope.NewControl(dst, envelope.ControlPresence)
		w.Presence(ev.Of)
		return w.End()
	case gateway.Welcome:
		w := envelope.NewControl(dst, envelope.ControlHello)
		w.Positions("heads", ev.Heads)
		w.Text("epoch", ev.Epoch)
		w.ID("node_id", string(ev.Server))
		w.Number("window", int64(ev.Window))
		w.Number("ping_s", int64(ev.Ping.Seconds()))
		return w.End()
	case gateway.CaughtUp:
		w := envelope.NewControl(dst, envelope.ControlCaughtUp)
		w.Positions("heads", ev.Heads)
		return w.End()
	case gateway.Gap:
		w := envelope.NewControl(dst, envelope.ControlGap)
		w.Log("log", ev.Log)
		w.Seq("floor", ev.Floor)
		return w.End()
	case gateway.Header:
		w := envelope.NewControl(dst, envelope.ControlHeader)
		w.Seq("seq", ev.Seq)
		w.Log("log", ev.Log)
		w.ID("node_id", string(ev.By))
		w.Payload(ev.Document)
		return w.End()
	case gateway.Subscribed:
		w := envelope.NewControl(dst, envelope.ControlSubscribed)
		w.ID("id", ev.ID)
		w.Positions("cursors", ev.Cursors)
		w.Positions("heads", ev.Heads)
		w.Topics(ev.Topics)
		return w.End()
	case gateway.Unsubscribed:
		w := envelope.NewControl(dst, envelope.ControlUnsubscribed)
		w.ID("id", ev.ID)
		w.Topics(ev.Topics)
		return w.End()
	case gateway.Expiring:
		w := envelope.NewControl(dst, envelope.ControlExpiring)
		w.Number("at", ev.At.UnixMilli())
		return w.End()
	case gateway.Refreshed:
		w := envelope.NewControl(dst, envelope.ControlRefreshed)
		w.ID("id", ev.ID)
		w.Number("expires", ev.Expires.UnixMilli())
		return w.End()
	case gateway.Reconnect:
		w := envelope.NewControl(dst, envelope.ControlReconnect)
		w.Number("after_ms", ev.After.Milliseconds())
		w.Nodes(ev.URLs)
		return w.End()
	}
	return dst
}
