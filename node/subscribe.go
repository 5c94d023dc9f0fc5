package node

import (
	"context"
	"slices"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
)

// topicEvery is how long a connection waits in the long run between two topics
// that it begins to follow; it may begin with as many as it may have at once.
// Where nobody else follows them, each costs the store a write and all servers a
// word.
const topicEvery = 20 * time.Millisecond

var (
	errTooManyTopics = envelope.Errorf(envelope.Forbidden, "a connection follows at most %d topics", envelope.MaxTopics)
	errNotOpen       = envelope.BusyError(200, "the connection is not open yet", nil)
)

// subscribe makes the connection follow topics and says so. The read loop calls
// it, so that what the client says next is said by who follows them.
//
// The connection is registered and its server's edge written before it is
// looked how far a log goes, as for all logs (see tryOpen). But a topic may have
// ten thousand followers here, so only the first of them writes and reads
// anything: to the others one that is there already says how far it has come.
func (c *conn) subscribe(cmd gateway.Subscribe) error {
	if err := c.askTopics(cmd.Topics); err != nil {
		return err
	}
	ctx, cancel := c.ctx.within(openWithin)
	defer cancel()
	if !c.beginFollowing(ctx) {
		return errNotOpen
	}
	defer c.endFollowing()

	if err := mayFollow(c.caller(), cmd.Topics); err != nil { // again: see dropTopics
		return err
	}
	topics := slices.Compact(slices.Sorted(slices.Values(cmd.Topics)))
	fresh, err := c.newTopics(topics)
	if err != nil {
		return err
	}
	if err := c.attachTopics(ctx, fresh); err != nil {
		return tooLate(ctx, err)
	}
	heads, err := c.n.topicHeads(ctx, fresh, cmd.Cursors)
	if err != nil {
		c.detach(fresh)
		return tooLate(ctx, err)
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	var gaps []gateway.Gap
	foreign := cmd.Epoch != "" && cmd.Epoch != c.n.epoch // its cursors are from another store
	for _, log := range fresh {
		head := heads[log]
		at, ok := cmd.Cursors[log]
		switch {
		case !ok:
			at = head
		case at > head || foreign: // the log is not the one it was
			at = 0
			gaps = append(gaps, gateway.Gap{Log: log, Floor: 1})
		}
		c.follows.Get(log).start(at, head)
		if !ok || at < cmd.Cursors[log] {
			c.follows.Get(log).oweHeader(false)
		}
	}
	told := gateway.Subscribed{
		ID: cmd.ID, Topics: topics,
		Cursors: make(map[envelope.Address]uint64, len(topics)), Heads: make(map[envelope.Address]uint64, len(topics)),
	}
	for _, id := range topics {
		f := c.follows.Get(id.Address())
		told.Cursors[f.log], told.Heads[f.log] = f.sent, max(f.sent, f.head)
	}
	c.lane.push(c.codec.Append(nil, told))
	for _, g := range gaps {
		c.lane.push(c.codec.Append(nil, g))
	}
	c.wake()
	return nil
}

// tooLate returns what to say of err when it came because ctx was over.
func tooLate(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return envelope.BusyError(1000, "the store did not answer in time", err)
	}
	return err
}

// openTopics follows the topics that hello named, before caught_up is said.
func (c *conn) openTopics(hello *gateway.Hello) {
	err := c.subscribe(gateway.Subscribe{Topics: hello.Topics, Cursors: hello.Cursors, Epoch: hello.Epoch})
	if err != nil {
		c.refuse("", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.joining = false
	c.wake()
}

// newTopics returns the logs of topics that the connection does not follow yet.
func (c *conn) newTopics(topics []envelope.SessionID) ([]envelope.Address, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if own := c.follows.Get(c.who.Node.Address()); own == nil || !own.started {
		return nil, errNotOpen // nothing comes before the answer to hello
	}
	followed := 0
	for f := range c.follows.All() {
		log := f.log
		if isTopic(log) {
			followed++
		}
	}
	var fresh []envelope.Address
	for _, id := range topics {
		if log := id.Address(); c.follows.Get(log) == nil {
			fresh = append(fresh, log)
		}
	}
	if followed+len(fresh) > envelope.MaxTopics {
		return nil, errTooManyTopics
	}
	return fresh, c.payTopics(len(fresh), c.n.alarms.now())
}

// payTopics refuses who begins to follow topics too fast. What is kept of that
// is the time up to which the topics so far have used what is allowed (the
// virtual scheduling of ITU-T I.371).
func (c *conn) payTopics(n int, now time.Duration) error {
	paid := max(c.topicsPaid, now) + time.Duration(n)*topicEvery
	if over := paid - now - envelope.MaxTopics*topicEvery; over > 0 {
		return &envelope.Error{
			Code: envelope.RateLimited, Detail: "too many topics, one after the other",
			RetryMS: (over + time.Millisecond - 1).Milliseconds(),
		}
	}
	c.topicsPaid = paid
	return nil
}

// attachTopics is attach for the logs of topics.
func (c *conn) attachTopics(ctx context.Context, fresh []envelope.Address) error {
	entered := make([]*follow, len(fresh))
	c.mu.Lock()
	for i, log := range fresh {
		entered[i] = &follow{c: c, log: log, stays: topical}
		c.follows.Put(entered[i])
	}
	c.mu.Unlock()
	return c.enter(ctx, entered)
}

// topicHeads returns how far the logs of topics go, at least, that have just
// been attached: nothing that is not handed to the connection from now on is
// missing below. Cursors are the positions claimed in them.
func (n *Node) topicHeads(ctx context.Context, logs []envelope.Address, cursors map[envelope.Address]uint64) (map[envelope.Address]uint64, error) {
	heads := make(map[envelope.Address]uint64, len(logs))
	unknown := make(map[envelope.Address]uint64)
	for _, log := range logs {
		head, ok := n.conns.known(log)
		if heads[log] = head; !ok || cursors[log] > head {
			unknown[log] = cursors[log]
		}
	}
	if len(unknown) == 0 {
		return heads, nil
	}
	read, err := n.heads(ctx, unknown)
	for log := range unknown {
		heads[log] = max(heads[log], read[log])
	}
	return heads, err
}

// unsubscribe takes back subscribe.
func (c *conn) unsubscribe(cmd gateway.Unsubscribe) error {
	if !c.beginFollowing(&c.ctx) {
		return errNotOpen
	}
	defer c.endFollowing()
	var logs []envelope.Address
	c.mu.Lock()
	for _, id := range cmd.Topics {
		if log := id.Address(); c.follows.Get(log) != nil && !slices.Contains(logs, log) {
			logs = append(logs, log)
		}
	}
	c.mu.Unlock()
	c.detach(logs)
	c.reply(gateway.Unsubscribed(cmd))
	return nil
}
