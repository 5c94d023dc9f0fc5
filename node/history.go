package node

import (
	"context"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/inbox"
)

const (
	// maxHistory is the most entries of one page, whatever is asked for.
	maxHistory = 1000
	// maxReads is how often a page goes on when nothing read belongs to it.
	maxReads = 10
)

// clockSkew is how far apart the time stamps of neighbours in a log may be in
// the wrong order: servers' clocks differ, and what waits for the store was
// stamped before.
const clockSkew = 10 * time.Second

// history returns a page of a log that the caller may read. Its entries are as
// their revisions have left them. Who goes on from where it has come to must
// learn what has become of the entries it has, so forwards the revisions are in
// the page as well; backwards they are not.
func (n *Node) history(ctx context.Context, who envelope.Principal, cmd gateway.History) (gateway.Page, error) {
	look := n.view
	if who.App {
		look = n.wholeLog
	}
	v, err := look(ctx, who, cmd.Log)
	if err != nil {
		return gateway.Page{}, err
	}
	if cmd.Limit <= 0 {
		cmd.Limit = inbox.PageEntries
	}
	cmd.Limit = min(cmd.Limit, maxHistory)
	if cmd.Back {
		return n.historyBack(ctx, v, cmd)
	}
	after := cmd.After
	if cmd.Since > 0 {
		if after, err = n.before(ctx, v, after, cmd.Since); err != nil {
			return gateway.Page{}, err
		}
	}
	entries, next, err := n.page(ctx, v, after, cmd.Limit, func(env *envelope.Envelope) bool {
		return env.Timestamp >= cmd.Since
	})
	if err != nil {
		return gateway.Page{}, err
	}
	return gateway.Page{Entries: entries, Floor: v.floor, Head: v.head, Next: next, More: next < v.head}, nil
}

// view is what a device may see of a log: the entries from floor to head,
// and of a session those of its stays.
type view struct {
	log         envelope.Address
	floor, head uint64
	whole       bool // for the app: whatever is there
	stays            // of a session
	who         envelope.Principal
}

var errNoLog = envelope.Errorf(envelope.NotFound, "no such log, or not yours to read")

// view finds out what the caller may see of a log; errNoLog when it may not
// see it at all.
//
// The head is read first and the membership second. So a leave that is not
// known yet stands beyond that head, and nothing behind it can be seen.
func (n *Node) view(ctx context.Context, who envelope.Principal, log envelope.Address) (view, error) {
	own := log == who.Node.Address() || log == who.Client.Address()
	id := envelope.SessionID(log.ID)
	if log.Kind == envelope.KindNode && !own {
		id, _, _ = envelope.NodeID(log.ID).Alias()
	}
	if !own && (log.Kind == envelope.KindClient || !envelope.ValidID(string(id))) {
		return view{}, errNoLog
	}
	x, err := n.inbox.Extent(ctx, log)
	if err != nil {
		return view{}, err
	}
	v := view{log: log, floor: max(x.Floor, 1), head: x.Head}
	if isTopic(log) {
		v.spans = always()
	}
	if own || isTopic(log) {
		return v, nil
	}
	m, err := n.sessions.Stays(ctx, id, who.Node)
	if err != nil {
		return view{}, err
	}
	if log.Kind == envelope.KindNode {
		if log != m.Alias.Address() {
			return view{}, errNoLog
		}
		return v, nil
	}
	if len(m.Spans) == 0 {
		return view{}, errNoLog
	}
	if v.stays, err = n.standing(ctx, who.Node, m); err != nil {
		return view{}, err
	}
	v.who = who
	v.floor = max(v.floor, v.first())
	if last := m.Spans[len(m.Spans)-1]; last.Until != 0 {
		v.head = min(v.head, last.Until)
	}
	return v, nil
}

// wholeLog is view for the app: all that is in any log. Who is in a session by
// an alias stands in none.
func (n *Node) wholeLog(ctx context.Context, who envelope.Principal, log envelope.Address) (view, error) {
	x, err := n.inbox.Extent(ctx, log)
	if err != nil {
		return view{}, err
	}
	v := view{log: log, floor: max(x.Floor, 1), head: x.Head, whole: true, who: who}
	if log.Kind == envelope.KindSession {
		v.spans = always()
	}
	return v, nil
}

// sees reports whether the entry with that seq may be seen.
func (v *view) sees(seq uint64) bool {
	return seq >= v.floor && seq <= v.head && (v.log.Kind != envelope.KindSession || v.within(seq))
}

// shows reports whether an entry may be seen.
func (v *view) shows(env *envelope.Envelope) bool {
	return v.sees(env.Seq) && (v.whole || v.meant(env) || v.own(v.log, env, v.who))
}

// skip returns the position before the first entry behind after that may be
// seen, or head.
func (v *view) skip(after uint64) uint64 {
	after = max(after, v.floor-1)
	if v.log.Kind != envelope.KindSession {
		return min(after, v.head)
	}
	next := v.head
	for _, s := range v.spans {
		if s.Until == 0 || after < s.Until {
			next = min(next, max(after, s.First()-1))
		}
	}
	return next
}

// page returns entries behind after, at most limit, and the position it has
// come to: those that may be seen, have not expired and are wanted, as their
// last revisions have left them. When there are none for long, it ends empty
// before the head.
func (n *Node) page(ctx context.Context, v view, after uint64, limit int, wanted func(*envelope.Envelope) bool) ([]envelope.Envelope, uint64, error) {
	var entries []envelope.Envelope
	now := time.Now()
	after = v.skip(after)
	for reads := 0; after < v.head && len(entries) == 0 && reads < maxReads; reads++ {
		read, err := n.inbox.Read(ctx, v.log, after, limit, inbox.PageBytes)
		if err != nil {
			return nil, 0, err
		}
		if len(read) == 0 {
			return nil, v.head, nil // trimmed meanwhile
		}
		for i := range read {
			env := &read[i]
			if v.shows(env) && !env.Expired(now) && wanted(env) {
				entries = append(entries, *env)
			}
		}
		after = v.skip(read[len(read)-1].Seq)
	}
	shown, err := n.revised(ctx, v, entries)
	if err == nil && len(shown) < len(entries) {
		after = shown[len(shown)-1].Seq
	}
	return shown, after, err
}

// before returns a position behind after, with no entry of that time or later
// between the two. It searches by halves; time stamps rise but for clockSkew.
func (n *Node) before(ctx context.Context, v view, after uint64, since int64) (uint64, error) {
	return n.search(ctx, v, after, since-clockSkew.Milliseconds())
}

// search is before for time stamps that rise.
func (n *Node) search(ctx context.Context, v view, after uint64, since int64) (uint64, error) {
	low, high := max(after+1, v.floor), v.head+1 // the entry sought is among these, or is high
	for low < high {
		middle := low + (high-low)/2
		read, err := n.inbox.Read(ctx, v.log, middle-1, 1, 1)
		switch {
		case err != nil:
			return 0, err
		case len(read) == 0 || read[0].Timestamp >= since:
			high = middle
		default:
			low = read[0].Seq + 1
		}
	}
	return low - 1, nil
}
