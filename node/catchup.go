package node

import (
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/inbox"
)

// A connection that is behind in several logs reads them together, so that a
// device with many sessions resumes in few queries: so many logs at once, and
// so many entries in all.
const (
	togetherLogs    = 50
	togetherEntries = 200
)

// Pauses between attempts to read a log that cannot be read.
const (
	readRetry    = 50 * time.Millisecond
	readRetryMax = 2 * time.Second
)

// behind returns logs to read on, and from where, and those of sessions whose
// headers come first; under mu. When there are none it looks no more until
// somebody wakes the connection: it may follow a thousand logs, and a message
// that goes straight to the lane must not cost a look at each.
func (c *conn) behind() (behind map[*follow]uint64, headers map[*follow]headerDue) {
	if !c.lagging {
		return nil, nil
	}
	for f := range c.follows.All() {
		if !f.started || f.live || f.paused {
			continue
		}
		if f.owed > 0 {
			if headers == nil {
				headers = make(map[*follow]headerDue)
			}
			if len(headers) < headersTogether {
				headers[f] = headerDue{f.owed, f.sent}
			}
			continue
		}
		if behind == nil {
			behind = make(map[*follow]uint64)
		}
		if behind[f] = f.sent; len(behind) == togetherLogs {
			break
		}
	}
	c.lagging = len(behind)+len(headers) > 0
	return behind, headers
}

// catchUp reads some of each log that the connection is behind in: together,
// and then one of those of which that has brought nothing alone, so that none
// waits for ever for the others.
func (c *conn) catchUp(behind map[*follow]uint64) {
	if len(behind) > 1 {
		c.catchUpTogether(behind)
	}
	var failed error
	for f, after := range behind {
		var page []envelope.Envelope
		if failed == nil {
			page, failed = c.n.inbox.Read(&c.ctx, f.log, after, inbox.PageEntries, inbox.PageBytes)
			if failed == nil {
				failed = c.n.hideDeleted(&c.ctx, map[envelope.Address][]envelope.Envelope{f.log: page})
			}
			if failed == nil && begins(page) > after+1 {
				failed = c.relearn(f)
			}
			if c.readFailed(failed); failed != nil {
				page = nil
			}
		}
		c.replay(f, after, page)
		if failed == nil {
			return
		}
	}
}

// catchUpTogether takes the logs that it has read of out of behind.
func (c *conn) catchUpTogether(behind map[*follow]uint64) {
	from := make(map[envelope.Address]uint64, len(behind))
	for f, after := range behind {
		from[f.log] = after
	}
	pages, err := c.n.inbox.ReadMany(&c.ctx, from, max(togetherEntries/len(behind), 1), inbox.PageBytes)
	if err == nil {
		err = c.n.hideDeleted(&c.ctx, pages)
	}
	if err != nil {
		pages = nil // each is read alone
	}
	c.readFailed(err)
	for f, after := range behind {
		if page := pages[f.log]; begins(page) == after+1 {
			c.replay(f, after, page)
			delete(behind, f)
		}
	}
}

// begins returns the seq of the first entry of a page; 0 when it is empty.
func begins(page []envelope.Envelope) uint64 {
	if len(page) == 0 {
		return 0
	}
	return page[0].Seq
}

// relearn asks what the device has to do with a session, of whose log entries
// have been trimmed before it has read them: its own may be among them, which
// would have said so. Those that let it out are known when a later one can be
// read.
func (c *conn) relearn(f *follow) error {
	id := envelope.SessionID(f.log.ID)
	if f.log.Kind != envelope.KindSession || id.IsTopic() {
		return nil
	}
	m, err := c.n.sessions.Stays(&c.ctx, id, c.who.Node)
	if err != nil {
		return err
	}
	in, err := c.n.standing(&c.ctx, c.who.Node, m)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	f.learn(in)
	f.crowned(in.master)
	return nil
}

func (c *conn) readFailed(err error) {
	if err != nil && c.ctx.Err() == nil {
		c.n.stats.ReadErrors.Add(1)
	}
}

// replay sends the client what was read of a log behind after.
func (c *conn) replay(f *follow, after uint64, page []envelope.Envelope) {
	now := time.Now()
	frames := make([]waiting, len(page))
	for i := range page {
		m := encoded{env: &page[i]}
		frames[i] = m.waiting(c.codec)
	}

	if f.log.Kind == envelope.KindSession {
		for i := range page {
			c.n.sessions.Observe(&page[i]) // what was not heard as it happened
		}
	}
	c.mu.Lock()
	if f.owed > 0 {
		c.mu.Unlock()
		return // a header has come to be due meanwhile; what was read is read again
	}
	if len(page) > 0 && page[0].Seq > f.sent+1 && f.sent == after {
		// What is between has been trimmed. A client that says where it stands
		// is told; others see it by the numbers.
		c.lane.push(c.codec.Append(nil, gateway.Gap{Log: f.log, Floor: page[0].Seq}))
		f.sent = page[0].Seq - 1
		f.shown = f.sent // the gap is to be acknowledged like a message, or said again
		f.oweHeader(false)
	}
	for i := range page {
		if page[i].Seq != f.sent+1 || f.owed > 0 {
			break // a store never shows a hole; if it did, we must not hide it
		}
		f.sent = page[i].Seq
		switch {
		case !f.sees(&page[i], c.who):
		case page[i].Expired(now):
			c.n.stats.Expired.Add(1)
		default:
			f.shown = f.sent
			c.remember(f, &page[i])
			c.lane.add(frames[i])
		}
	}
	if f.sent >= f.head && f.owed == 0 {
		f.live = true
	}
	if f.sent > after {
		f.failed = 0
	} else if !f.live && f.owed == 0 {
		c.pauseReading(f)
	}
	c.endIfLeft(f)
	c.mu.Unlock()
	c.n.stats.Replayed.Add(uint64(len(page)))
}

// pauseReading puts off the next attempt: the store is away, or shows less than
// we were told there is. Other logs and live messages go on meanwhile; under mu.
func (c *conn) pauseReading(f *follow) {
	pause := min(readRetry<<f.failed, readRetryMax)
	if pause < readRetryMax {
		f.failed++
	}
	f.paused = true
	time.AfterFunc(pause, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		f.paused = false
		c.wake()
	})
}
