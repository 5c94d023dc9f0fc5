package node

import (
	"fmt"
	"slices"
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

// checker decides the promises of the delivery model from a history. It knows
// nothing of servers: only what devices noted, and what the logs turned out to
// hold.
type checker struct {
	lag     time.Duration // how long a server may take a device that has left for a member, of volatile messages
	truth   map[envelope.Address]*truth
	posts   map[post]*posted
	volat   map[string]event // volatile messages sent, by their text
	users   map[envelope.NodeID]envelope.ClientID
	handled map[place]uint64          // the furthest a device has acknowledged
	stays   map[place][]stay          // as its servers' answers told them
	streams map[int]*reading          // by their numbers
	arrived map[arrival]struct{}      // volatile messages
	found   map[string]struct{}       // violations, each once
	faults  []string                  // the same, in order
	finals  map[envelope.NodeID]event // what settled last
}

type (
	// truth is what a log holds, and what it may have forgotten.
	truth struct {
		entries map[uint64]entry
		head    uint64
		floor   uint64 // what is before it may be gone
		seqs    map[string]uint64
		stays   map[envelope.NodeID][][2]uint64 // of a session: from the joining entry to the leaving one, 0 for none
	}
	// post names a message as its sender does.
	post struct {
		src envelope.NodeID
		log envelope.Address
		id  string
	}
	posted struct {
		first int // its place among all events
		texts []string
		seq   uint64
		text  string // what was acknowledged
	}
	place struct {
		device envelope.NodeID
		log    envelope.Address
	}
	// stay is a time of membership as far as a device can tell.
	stay struct{ from, until time.Time }
	// arrival is a volatile message on a connection.
	arrival struct {
		stream int
		text   string
	}
	// reading is how far a stream has come: of one connection, or of a client that hides several.
	reading struct {
		device envelope.NodeID
		from   map[envelope.Address]uint64
		at     map[envelope.Address]uint64 // up to where everything has come; absent: nothing has
		told   map[envelope.Address]uint64 // floors
	}
)

// check returns what is wrong with a history.
func check(events []event, lag time.Duration) []string {
	c := &checker{
		lag: lag, truth: map[envelope.Address]*truth{}, posts: map[post]*posted{}, volat: map[string]event{},
		users: map[envelope.NodeID]envelope.ClientID{}, handled: map[place]uint64{}, stays: map[place][]stay{},
		streams: map[int]*reading{}, arrived: map[arrival]struct{}{}, found: map[string]struct{}{},
		finals: map[envelope.NodeID]event{},
	}
	for i, e := range events {
		switch e.what {
		case evSent:
			c.send(i, e)
		case evTrimmed:
			t := c.log(e.log)
			t.floor = max(t.floor, e.seq)
		case evAudited:
			c.audit(e)
		case evOpened:
			c.users[e.device] = e.user
		case evSettled:
			c.finals[e.device] = e
		}
	}
	for log, t := range c.truth { // floors are replayed with the rest
		t.floor = 0
		c.sentOnly(log, t)
	}
	for _, e := range events {
		c.replay(e)
	}
	c.order()
	for _, e := range c.finals {
		c.complete(e)
	}
	return c.faults
}

func (c *checker) fault(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if _, known := c.found[text]; !known {
		c.found[text] = struct{}{}
		c.faults = append(c.faults, text)
	}
}

func (c *checker) log(log envelope.Address) *truth {
	t := c.truth[log]
	if t == nil {
		t = &truth{entries: map[uint64]entry{}, seqs: map[string]uint64{}, stays: map[envelope.NodeID][][2]uint64{}}
		c.truth[log] = t
	}
	return t
}

func (c *checker) send(at int, e event) {
	if e.id == "" {
		c.volat[e.text] = e
		return
	}
	key := post{e.device, e.log, e.id}
	p := c.posts[key]
	if p == nil {
		p = &posted{first: at}
		c.posts[key] = p
	}
	if !slices.Contains(p.texts, e.text) {
		p.texts = append(p.texts, e.text)
	}
}

// audit holds what a log is now against what it was: numbers rise by one, what
// was read stays, and nothing comes below it later.
func (c *checker) audit(e event) {
	t := c.log(e.log)
	next := uint64(0)
	for _, x := range e.pages {
		switch {
		case next == 0 && x.seq > max(t.floor, 1):
			c.fault("3: %v begins at %d, but only what is before %d may be gone", e.log, x.seq, max(t.floor, 1))
		case next != 0 && x.seq != next:
			c.fault("3: %v has %d after %d", e.log, x.seq, next-1)
		}
		next = x.seq + 1
		old, known := t.entries[x.seq]
		switch {
		case known && old != x:
			c.fault("3: %v %d was %v and is %v", e.log, x.seq, old, x)
		case !known && x.seq <= t.head:
			c.fault("3: %v %d appeared after %d could be read", e.log, x.seq, t.head)
		}
		if known {
			continue
		}
		t.entries[x.seq] = x
		switch x.kind {
		case envelope.TypeJoined:
			t.stays[x.src] = append(t.stays[x.src], [2]uint64{x.seq, 0})
		case envelope.TypeLeft:
			if n := len(t.stays[x.src]); n > 0 {
				t.stays[x.src][n-1][1] = x.seq
			}
		default:
			if first := t.seqs[x.text]; first != 0 {
				c.fault("5: %v has %q as %d and as %d", e.log, x.text, first, x.seq)
			}
			t.seqs[x.text] = x.seq
		}
	}
	if head := max(next, 1) - 1; head < t.head {
		c.fault("3: %v went up to %d and now to %d", e.log, t.head, head)
	} else {
		t.head = head
	}
}

// sentOnly faults what is in a log and was sent by nobody.
func (c *checker) sentOnly(log envelope.Address, t *truth) {
	meant := make(map[string]envelope.NodeID)
	for key, p := range c.posts {
		if key.log == log {
			for _, text := range p.texts {
				meant[text] = key.src
			}
		}
	}
	for seq, x := range t.entries {
		if src, known := meant[x.text]; x.kind == 0 && (!known || src != x.src) {
			c.fault("1: %v %d is %q of %s, which was never sent", log, seq, x.text, x.src)
		}
	}
}

func (c *checker) replay(e event) {
	switch e.what {
	case evAcked:
		c.ack(e)
	case evRefused:
		c.refuse(e)
	case evOpened:
		c.streams[e.stream] = &reading{
			device: e.device, from: e.from,
			at: map[envelope.Address]uint64{}, told: map[envelope.Address]uint64{},
		}
		for log, seq := range e.from {
			c.streams[e.stream].at[log] = seq
			at := place{e.device, log} // who begins there does without what is before
			c.handled[at] = max(c.handled[at], seq)
		}
	case evGot:
		if e.seq == 0 {
			c.gotVolatile(e)
		} else {
			c.got(e)
		}
	case evGapped:
		c.gap(e)
	case evHandled:
		at := place{e.device, e.log}
		c.handled[at] = max(c.handled[at], e.seq)
	case evJoining:
		at := place{e.device, e.log}
		c.stays[at] = append(c.stays[at], stay{from: e.at})
	case evJoined, evLeft:
		c.membership(e)
	case evStuck:
		c.fault("1: %s: %s", e.device, e.text)
	case evTrimmed:
		t := c.log(e.log)
		t.floor = max(t.floor, e.seq)
	}
}

// ack decides whether what was acknowledged is stored, under one number only.
func (c *checker) ack(e event) {
	p := c.posts[post{e.device, e.log, e.id}]
	switch {
	case p == nil:
		c.fault("1: %s was acknowledged %s to %v, which it never sent", e.device, e.id, e.log)
		return
	case p.seq != 0 && p.seq != e.seq:
		c.fault("5: %s to %v was acknowledged as %d and as %d", p.text, e.log, p.seq, e.seq)
	case p.seq != 0 && p.text != e.text:
		c.fault("5: %q was acknowledged under the id of %q", e.text, p.text)
	}
	if p.seq == 0 {
		p.seq, p.text = e.seq, e.text
	}
	if x, known := c.log(e.log).entries[e.seq]; !known || x.text != e.text {
		c.fault("1: %q was acknowledged as %v %d, where %q is", e.text, e.log, e.seq, x.text)
	}
}

func (c *checker) refuse(e event) {
	p := c.posts[post{e.device, e.log, e.id}]
	if e.code == envelope.Conflict && (p == nil || len(p.texts) < 2) {
		c.fault("5: %q is said to be in conflict with itself", e.text)
	}
}

func (c *checker) membership(e event) {
	kind := int64(envelope.TypeJoined)
	if e.what == evLeft {
		kind = envelope.TypeLeft
		if all := c.stays[place{e.device, e.log}]; len(all) > 0 {
			all[len(all)-1].until = e.at
		}
	}
	if x := c.log(e.log).entries[e.seq]; x.kind != kind || x.src != e.device {
		c.fault("6: %s was told of %d in %v, where %q is", e.device, e.seq, e.log, x.text)
	}
}

// sees reports whether an entry of a log is for a device.
func (c *checker) sees(device envelope.NodeID, log envelope.Address, x entry) bool {
	switch log.Kind {
	case envelope.KindNode:
		return log == device.Address()
	case envelope.KindClient:
		return log == c.users[device].Address() && x.src != device
	}
	return x.src != device && slices.ContainsFunc(c.log(log).stays[device], func(s [2]uint64) bool {
		return x.seq >= s[0] && (s[1] == 0 || x.seq <= s[1])
	})
}

// got decides whether a message may arrive at that moment: it is what the log
// holds, it is for this device, it comes after the one before it, and what is
// between was not for this device, or it was told that it is gone.
func (c *checker) got(e event) {
	s := c.streams[e.stream]
	x, known := c.log(e.log).entries[e.seq]
	switch {
	case !known:
		c.fault("3: %s got %q as %v %d, where nothing is", e.device, e.text, e.log, e.seq)
		return
	case x.text != e.text || x.src != e.src: // not the time: a repetition that comes live has its own
		c.fault("3: %s got %q of %s as %v %d, where %q of %s is", e.device, e.text, e.src, e.log, e.seq, x.text, x.src)
	case !c.sees(e.device, e.log, x):
		c.fault("6: %s got %v %d (%q), which is not for it", e.device, e.log, e.seq, e.text)
	}
	at, begun := s.at[e.log]
	switch {
	case !begun: // from a stored position, which is none beyond what it has acknowledged
		at = c.handled[place{e.device, e.log}]
	case e.seq <= at:
		c.fault("2: %s got %v %d again, or after %d (stream %d)", e.device, e.log, e.seq, at, e.stream)
		return
	}
	c.missed(e.device, s, e.log, at, e.seq, e.at)
	s.at[e.log] = e.seq
}

// missed faults what was between two positions for a device and has not come.
func (c *checker) missed(device envelope.NodeID, s *reading, log envelope.Address, after, before uint64, now time.Time) {
	t := c.log(log)
	for seq := after + 1; seq < before; seq++ {
		x, known := t.entries[seq]
		switch {
		case seq < s.told[log], !known, !c.sees(device, log, x):
		case x.expires != 0 && x.expires <= now.UnixMilli():
		default:
			c.fault("7: %s never got %v %d (%q); it has all up to %d and what is from %d on", device, log, seq, x.text, after, before)
		}
	}
}

func (c *checker) gap(e event) {
	s := c.streams[e.stream]
	if floor := c.log(e.log).floor; e.seq > max(floor, 1) {
		c.fault("7: %s was told that %v begins at %d; only what is before %d may be gone", e.device, e.log, e.seq, floor)
	}
	if at, begun := s.at[e.log]; begun && e.seq <= at {
		c.fault("7: %s was at %d of %v and is told that it begins at %d", e.device, at, e.log, e.seq)
	}
	s.told[e.log] = max(s.told[e.log], e.seq)
	s.at[e.log] = max(s.at[e.log], e.seq-1)
}

// gotVolatile decides whether a message in no log may arrive: it was sent to
// an address of the device, and comes once.
func (c *checker) gotVolatile(e event) {
	m, known := c.volat[e.text]
	if !known || m.log != e.log || m.device != e.src {
		c.fault("1: %s got %q of %s to %v, which was never sent", e.device, e.text, e.src, e.log)
		return
	}
	if _, again := c.arrived[arrival{e.stream, e.text}]; again {
		c.fault("2: %s got %q again", e.device, e.text)
	}
	c.arrived[arrival{e.stream, e.text}] = struct{}{}
	var may bool
	switch e.log.Kind {
	case envelope.KindNode:
		may = e.log == e.device.Address()
	case envelope.KindClient:
		may = e.log == c.users[e.device].Address()
	case envelope.KindSession:
		may = slices.ContainsFunc(c.stays[place{e.device, e.log}], func(s stay) bool {
			return s.until.IsZero() || !m.at.After(s.until.Add(c.lag))
		})
	}
	if !may {
		c.fault("6: %s got the volatile %q to %v, which is not for it", e.device, e.text, e.log)
	}
}

// order faults messages of one sender to one address that are numbered in
// another order than they were sent.
func (c *checker) order() {
	type numbered struct {
		first int
		seq   uint64
		text  string
	}
	from := make(map[place][]numbered)
	for key, p := range c.posts {
		for _, text := range p.texts {
			if seq := c.log(key.log).seqs[text]; seq != 0 {
				from[place{key.src, key.log}] = append(from[place{key.src, key.log}], numbered{p.first, seq, text})
			}
		}
	}
	for at, all := range from {
		slices.SortFunc(all, func(a, b numbered) int { return a.first - b.first })
		for i := 1; i < len(all); i++ {
			if all[i].seq < all[i-1].seq {
				c.fault("4: %s sent %q before %q; in %v they are %d and %d", at.device, all[i-1].text, all[i].text, at.log, all[i-1].seq, all[i].seq)
			}
		}
	}
}

// complete faults what has not come although there was time.
func (c *checker) complete(e event) {
	s := c.streams[e.stream]
	for log, t := range c.truth {
		at, begun := s.at[log]
		if !begun {
			at = c.handled[place{e.device, log}]
		}
		c.missed(e.device, s, log, at, t.head+1, e.at)
	}
}
