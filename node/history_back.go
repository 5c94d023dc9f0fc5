package node

import (
	"context"
	"slices"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
	"github.com/allsparkrt/allspark/inbox"
)

// historyBack returns the page of a log that ends before a seq. Its entries are
// in rising order all the same: a client puts the page before what it has.
func (n *Node) historyBack(ctx context.Context, v view, cmd gateway.History) (gateway.Page, error) {
	end := v.head
	if cmd.Before > 0 {
		end = min(end, cmd.Before-1)
	}
	if cmd.Until > 0 {
		// Beyond it nothing is from that time any more, however clocks differ.
		last, err := n.search(ctx, v, 0, cmd.Until+1+clockSkew.Milliseconds())
		if err != nil {
			return gateway.Page{}, err
		}
		end = min(end, last)
	}
	entries, end, err := n.pageBack(ctx, v, end, cmd.Limit, func(env *envelope.Envelope) bool {
		return (cmd.Until == 0 || env.Timestamp <= cmd.Until) && env.Revises() == 0
	})
	if err != nil {
		return gateway.Page{}, err
	}
	slices.Reverse(entries)
	// A client that goes on from the beginning must find nothing there.
	return gateway.Page{Entries: entries, Floor: v.floor, Head: v.head, Back: true, Next: max(end+1, v.floor), More: end > 0}, nil
}

// skipBack returns the last entry up to end that may be seen; 0 when there is none.
func (v *view) skipBack(end uint64) uint64 {
	if end = min(end, v.head); end < v.floor {
		return 0
	}
	if v.log.Kind != envelope.KindSession {
		return end
	}
	last := uint64(0)
	for _, s := range v.spans {
		switch {
		case s.First() > end:
		case s.Until == 0:
			last = end
		default:
			last = max(last, min(end, s.Until))
		}
	}
	if last < v.floor {
		return 0
	}
	return last
}

// pageBack returns what page does of the entries up to end, newest first, and
// the last entry that is left for the page before; 0 when there is none. It
// reads further back until the page is full, but not for ever.
func (n *Node) pageBack(ctx context.Context, v view, end uint64, limit int, wanted func(*envelope.Envelope) bool) ([]envelope.Envelope, uint64, error) {
	var entries []envelope.Envelope
	now, size, count := time.Now(), 0, max(limit, inbox.PageEntries)
	end = v.skipBack(end)
	for reads := 0; end > 0 && len(entries) < limit && size < inbox.PageBytes && reads < maxReads; reads++ {
		read, tried, err := n.readBack(ctx, v, end, count)
		if err != nil {
			return nil, 0, err
		}
		if count = tried; len(read) == count { // they fitted
			count = min(2*count, max(limit, inbox.PageEntries))
		}
		if len(read) == 0 {
			end = 0 // trimmed meanwhile
			break
		}
		for i := len(read) - 1; i >= 0 && len(entries) < limit; i-- {
			env := &read[i]
			end = env.Seq - 1
			if v.shows(env) && !env.Expired(now) && wanted(env) {
				entries = append(entries, *env)
				size += len(env.Body)
			}
		}
		end = v.skipBack(end)
	}
	shown, err := n.revised(ctx, v, entries)
	if err == nil && len(shown) < len(entries) {
		end = v.skipBack(shown[len(shown)-1].Seq - 1)
	}
	return shown, end, err
}

// readBack reads a run of entries that ends with end, at most count of them and
// at most about a page of bytes. A store reads forwards: when so many bytes do
// not reach to the end, it reads fewer entries nearer to it. It returns how many
// it tried last.
func (n *Node) readBack(ctx context.Context, v view, end uint64, count int) ([]envelope.Envelope, int, error) {
	for ; ; count = max(count/8, 1) {
		after := max(end, uint64(count), v.floor-1+uint64(count)) - uint64(count)
		read, err := n.inbox.Read(ctx, v.log, after, int(end-after), inbox.PageBytes)
		if err != nil || len(read) == 0 {
			return nil, count, err
		}
		if last := read[len(read)-1].Seq; last < end && count > 1 {
			continue
		}
		// What lies before may have been trimmed meanwhile, then the run goes too far.
		return slices.DeleteFunc(read, func(env envelope.Envelope) bool { return env.Seq > end }), count, nil
	}
}
