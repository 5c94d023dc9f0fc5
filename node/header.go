package node

import (
	"context"
	"maps"
	"slices"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/session"
)

// The header of a session is told to a client that has seen nothing of its
// stay there yet, or to which a gap in the log has been said; whoever has seen
// what was before learns of another header from its entry in the log.
//
// While a header is due, nothing else is sent of the log, and it is read after
// the position behind which the log goes on is known to be in the log. So it
// is as new as the newest header entry up to that position: those that come
// later are among what follows.

// headersTogether is how many headers are read for a connection at a time: so
// many as its window has room for.
const headersTogether = windowBytes / session.MaxHeader

// oweHeader has the client told the header of the session, if it has one,
// before what follows in its log; anew says that this is for a stay of which
// nothing has been sent. Whoever begins to follow a log calls it once it has
// been started, and wakes the connection; under the connection's mu.
func (f *follow) oweHeader(anew bool) {
	if f.log.Kind == envelope.KindSession {
		f.owed++
		f.anew = f.anew || anew
		f.live = false
	}
}

// headerDue is a header that is owed.
type headerDue struct {
	times uint32 // so often
	known uint64 // the log is known to go up to here
}

// tellHeaders tells the client headers that are due.
func (c *conn) tellHeaders(due map[*follow]headerDue) {
	headers, known, err := c.n.headersFor(&c.ctx, c.who.Node, due)
	c.readFailed(err)
	frames := make(map[envelope.SessionID][]byte, len(headers))
	for id, h := range headers {
		frames[id] = c.codec.Append(nil, describeHeader(h))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for f, d := range due {
		if f.gone {
			continue // it is not followed any more
		}
		if err != nil {
			c.pauseReading(f)
			continue
		}
		id := envelope.SessionID(f.log.ID)
		h, any := headers[id]
		f.learn(known[id]) // a stay that has begun meanwhile is owed a newer one
		if f.owed > d.times {
			continue
		}
		f.owed, f.failed = 0, 0
		f.goBack()
		if f.live = f.sent >= f.head; any && f.maySee(h) {
			c.lane.push(frames[id])
		}
	}
}

// headersFor reads headers, and of the sessions that have one what the device
// has had to do with them. A leave that is not known then comes after the header.
func (n *Node) headersFor(ctx context.Context, device envelope.NodeID, due map[*follow]headerDue) (map[envelope.SessionID]session.Header, map[envelope.SessionID]stays, error) {
	headers := make(map[envelope.SessionID]session.Header)
	unread := make(map[envelope.SessionID]uint64)
	for f, d := range due {
		id := envelope.SessionID(f.log.ID)
		h, ok := n.headers.get(id, d.known)
		switch {
		case !ok:
			unread[id] = d.known
		case h.Seq > 0:
			headers[id] = h
		}
	}
	if len(unread) == 0 {
		return headers, nil, nil
	}
	read, err := n.sessions.Headers(ctx, slices.Collect(maps.Keys(unread)))
	if err != nil {
		return nil, nil, err
	}
	maps.Copy(headers, read)
	known := make(map[envelope.SessionID]stays)
	for id, upto := range unread {
		if id.IsTopic() {
			n.headers.put(id, read[id], upto)
		} else if _, any := read[id]; any {
			m, err := n.sessions.Stays(ctx, id, device)
			if err != nil {
				return nil, nil, err
			}
			known[id] = staysOf(m)
			if err := n.headerOfStay(ctx, headers, id, m.Spans); err != nil {
				return nil, nil, err
			}
		}
	}
	return headers, known, nil
}

// headerOfStay puts the header of its time in the place of one that has been set
// after a device had left: that with which its last stay began, if the log still
// has it. Those set during the stay are among its entries.
func (n *Node) headerOfStay(ctx context.Context, headers map[envelope.SessionID]session.Header, id envelope.SessionID, spans []session.Span) error {
	if len(spans) == 0 {
		return nil // and it may see none
	}
	last := spans[len(spans)-1]
	if last.Until == 0 || headers[id].Seq <= last.Until {
		return nil
	}
	delete(headers, id)
	if last.Header == 0 {
		return nil
	}
	entries, err := n.inbox.Read(ctx, id.Address(), last.Header-1, 1, 1)
	if err != nil || len(entries) == 0 || entries[0].Seq != last.Header {
		return err
	}
	if document, ok := entries[0].Member("payload"); ok {
		headers[id] = session.Header{Session: id, Seq: last.Header, By: entries[0].SrcNode, Payload: document}
	}
	return nil
}

// goBack puts the position to where what the device sees of a new stay begins,
// if that is before the stay itself, but not into the stay before.
func (f *follow) goBack() {
	last := len(f.spans) - 1
	if f.anew && last >= 0 && f.spans[last].Since != 0 {
		to := f.spans[last].Since - 1
		if last > 0 {
			to = max(to, f.spans[last-1].Until)
		}
		if to < f.sent {
			f.rewind(to)
		}
	}
	f.anew = false
}

// maySee reports whether the device was in the session when that header was
// set, or has been in it later.
func (f *follow) maySee(h session.Header) bool { return f.open() || f.clamp(h.Seq) == h.Seq }

func describeHeader(h session.Header) gateway.Header {
	return gateway.Header{Log: h.Session.Address(), Seq: h.Seq, By: h.By, Document: h.Payload}
}
