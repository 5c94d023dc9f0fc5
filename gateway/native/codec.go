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

// Codec is the native form of commands and events.
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
	env, err := c.parser.Parse(frame)
	switch {
	case err == nil && env.Type == envelope.TypeConfig && c.legacy && env.HasType:
		cmd, err := decodeConfig(&env)
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
		return gateway.Acknowledge{Cursors: cursors}, nil
	case envelope.ControlRead:
		return gateway.MarkRead{Cursors: cursors}, nil
	case envelope.ControlPresence:
		return gateway.GetPresence{Clients: c.Clients, Session: c.Session, Subscribe: c.Subscribe}, nil
	}
	return nil, envelope.Errorf(envelope.BadRequest, "a client sends the control frames hello, ack, read, presence, subscribe and unsubscribe")
}

// Append implements [gateway.Codec].
func (c *Codec) Append(dst []byte, ev gateway.Event) []byte {
	switch ev := ev.(type) {
	case gateway.Message:
		return ev.Envelope.AppendJSON(dst)
	case gateway.Header:
		if c.legacy {
			return dst
		}
		return appendHeader(dst, ev)
	}
	var f envelope.Control
	switch ev := ev.(type) {
	case gateway.Ack:
		f = envelope.Control{Control: envelope.ControlAck, ID: ev.ID, Seq: ev.Seq, Offline: ev.Offline}
		if ev.Seq != 0 {
			f.Log = ev.Log.String()
		}
	case gateway.Refusal:
		f = envelope.Control{Control: envelope.ControlError, Code: ev.Err.Code, Detail: ev.Err.Detail, RetryMS: ev.Err.RetryMS}
		if ev.ID != "" {
			f.Control, f.ID = envelope.ControlNack, ev.ID
		}
	case gateway.Welcome:
		f = envelope.Control{
			Control: envelope.ControlHello, NodeID: string(ev.Server), Epoch: ev.Epoch,
			Heads: envelope.ByText(ev.Heads), Window: ev.Window, PingS: int(ev.Ping.Seconds()),
		}
	case gateway.CaughtUp:
		f = envelope.Control{Control: envelope.ControlCaughtUp, Heads: envelope.ByText(ev.Heads)}
	case gateway.Gap:
		f = envelope.Control{Control: envelope.ControlGap, Log: ev.Log.String(), Floor: ev.Floor}
	case gateway.Subscribed:
		f = envelope.Control{
			Control: envelope.ControlSubscribed, ID: ev.ID, Topics: ev.Topics,
			Cursors: envelope.ByText(ev.Cursors), Heads: envelope.ByText(ev.Heads),
		}
	case gateway.Unsubscribed:
		f = envelope.Control{Control: envelope.ControlUnsubscribed, ID: ev.ID, Topics: ev.Topics}
	case gateway.ReadMark:
		f = envelope.Control{Control: envelope.ControlRead, Cursors: envelope.ByText(ev.Cursors)}
	case gateway.Receipt:
		f = envelope.Control{
			Control: envelope.ControlReceipt, ID: ev.ID, Log: ev.Log.String(), Seq: ev.Seq, State: envelope.StateDelivered,
			NodeID: string(ev.Node), Client: string(ev.Client),
		}
		if ev.Read {
			f.State = envelope.StateRead
		}
	case gateway.Presence:
		f = envelope.Control{Control: envelope.ControlPresence, Presence: ev.Of}
	case gateway.Reconnect:
		f = envelope.Control{Control: envelope.ControlReconnect, AfterMS: ev.After.Milliseconds(), Nodes: ev.URLs}
	case gateway.Pending:
		return appendConfigReply(dst, ev)
	default:
		return dst
	}
	if c.legacy && f.Control != envelope.ControlError && f.Control != envelope.ControlNack {
		return dst
	}
	return f.AppendJSON(dst)
}

// appendHeader appends the frame of a header, with its document byte for byte.
func appendHeader(dst []byte, h gateway.Header) []byte {
	f := envelope.Control{Control: envelope.ControlHeader, Log: h.Log.String(), Seq: h.Seq, NodeID: string(h.By)}
	dst = f.AppendJSON(dst)
	dst = append(dst[:len(dst)-1], `,"payload":`...)
	return append(append(dst, h.Document...), '}')
}
