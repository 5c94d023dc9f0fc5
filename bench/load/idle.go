package load

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/allsparkrt/allspark/bench/peer"
)

// roomSize is how many users follow the same topic, where users do nothing else,
// or are in the same group.
const roomSize = 10

// room returns how a user of an idle crowd is connected: with one topic that ten
// share, where the target has topics.
func (r *run) room(i int) peer.User {
	if !r.Target.About().Can.Topics {
		return peer.User{}
	}
	n := r.islands()
	return peer.User{Topics: []string{r.name("room", i/n/roomSize*n+i%n)}}
}

// rooms makes a group of each ten of the users, where the target has groups.
func (r *run) rooms(ctx context.Context, users []*user) error {
	if !r.Target.About().Can.Groups {
		return nil
	}
	return inParallel(ctx, grouping, len(users)/roomSize, func(g int) error {
		var members []string
		for _, u := range users[g*roomSize : (g+1)*roomSize] {
			members = append(members, u.name)
		}
		return r.Target.Group(ctx, r.name("g", g), members)
	})
}

// watchFriends has a user who is connected watch whether three others are online,
// where the target can say.
func (r *run) watchFriends(users []*user, i int) error {
	if !r.Target.About().Can.Presence {
		return nil
	}
	var friends []string
	for k := 1; k <= 3; k++ {
		friends = append(friends, users[(i+k*len(users)/4)%len(users)].name)
	}
	return users[i].client.Watch(friends)
}

// without notes what of some things the target cannot do, for those who read the result.
func (r *run) without(things ...missing) {
	var names []string
	for _, what := range things {
		if !what.can {
			names = append(names, what.name)
		}
	}
	if len(names) > 0 {
		r.result.Note = "without " + strings.Join(names, ", ")
	}
}

type missing struct {
	can  bool
	name string
}

// islands returns how many groups of users there are of which none reaches
// another; a user is in that of its index modulo their number.
func (r *run) islands() int {
	if can := r.Target.About().Can; can.Islands {
		return can.Servers
	}
	return 1
}

// idle is connections that do nothing, then say a little, then do nothing again.
type idle struct {
	Connections int
	Members     bool          // each is one of a group, where there are groups, and watches friends
	Messages    int           // of each connection, to the next one
	Rate        float64       // of all together, per second
	Rest        time.Duration // before memory is read
	Watch       time.Duration // how long CPU time is looked at
}

func (c idle) run(ctx context.Context, r *run) error {
	if can := r.Target.About().Can; c.Members {
		r.without(missing{can.Groups, "durable groups (topics instead)"}, missing{can.Presence, "presence"})
	}
	x := newExchange(r, pairs{Users: c.Connections, Messages: c.Messages * c.Connections, Rate: c.Rate})
	islands := r.islands()
	x.to = func(u *pairUser) int {
		if next := u.index + islands; next < c.Connections {
			return next
		}
		return u.index % islands // the first one
	}
	users := make([]*user, len(x.users))
	for i, u := range x.users {
		users[i] = u.user
	}
	if c.Members { // before anybody comes: what a group costs by itself is not what a connection costs
		if err := r.rooms(ctx, users); err != nil {
			return err
		}
		if err := errors.Join(r.settle(ctx), r.sleep(ctx, c.Rest)); err != nil { // memory is given back
			return err
		}
	}
	if err := r.sleep(ctx, c.Rest/2); err != nil {
		return err
	}
	empty, err := r.meter.read()
	if err != nil {
		return err
	}
	connects := newHistogram()
	err = r.connectAll(ctx, c.Connections, func(i int) error {
		began := time.Now()
		err := r.connect(ctx, users[i], c.as(r, i), x.handler(i))
		connects.record(time.Since(began))
		if err == nil && c.Members {
			err = r.watchFriends(users, i)
		}
		if i%50 == 0 {
			r.progress(int64(i+1), int64(c.Connections))
		}
		return err
	})
	if err != nil {
		return err
	}
	open, err := r.meter.read()
	if err != nil {
		return err
	}
	r.result.Latency = connects.latency()
	r.result.figure("connects", "connections/s", float64(c.Connections)/open.at.Sub(empty.at).Seconds(), More)
	r.costs(empty, open, c.Connections, "connection")
	perConn := func(name string, now reading) {
		if len(r.meter.pids) > 0 {
			r.result.figure(name, "KB/connection", float64(now.server.RSS-empty.server.RSS)/1000/float64(c.Connections), Less)
		}
	}
	if err := r.sleep(ctx, c.Rest); err != nil {
		return err
	}
	rested, err := r.meter.read()
	if err != nil {
		return err
	}
	perConn("memory", rested)
	if err := r.sleep(ctx, c.Watch); err != nil {
		return err
	}
	watched, err := r.meter.read()
	if err != nil {
		return err
	}
	if len(r.meter.pids) > 0 {
		share := float64(watched.server.CPU-rested.server.CPU) / float64(watched.at.Sub(rested.at))
		r.result.figure("idle CPU", "% of a core", 100*share, Less)
	}

	ph := newPhase(r.id+1, x.Messages, false)
	if err := x.exchange(ctx, ph); err != nil {
		return err
	}
	if err := r.sleep(ctx, c.Rest); err != nil {
		return err
	}
	after, err := r.meter.read()
	if err != nil {
		return err
	}
	perConn("memory after traffic", after)
	r.verdict(ph.ledger.Verdict())
	return nil
}

// as returns how a connection is made.
func (c idle) as(r *run, i int) peer.User {
	can := r.Target.About().Can
	if !c.Members {
		return r.room(i)
	}
	var u peer.User
	if !can.Groups {
		u = r.room(i)
	}
	u.Durable, u.Presence = can.Groups, can.Presence
	return u
}

// herd is connections that are all lost at once and come back as fast as they can.
type herd struct{ Connections int }

func (h herd) run(ctx context.Context, r *run) error {
	users := make([]*user, h.Connections)
	for i := range users {
		users[i] = r.user(i)
	}
	connects := newHistogram()
	connect := func(i int) error {
		began := time.Now()
		err := r.connect(ctx, users[i], r.room(i), peer.Handler{})
		connects.record(time.Since(began))
		if i%50 == 0 {
			r.progress(int64(i+1), int64(h.Connections))
		}
		return err
	}
	if err := r.connectAll(ctx, h.Connections, connect); err != nil {
		return err
	}
	connects = newHistogram()
	before, err := r.meter.read()
	if err != nil {
		return err
	}
	for _, u := range users {
		if err := u.client.Close(); err != nil {
			return err
		}
	}
	if err := r.connectAll(ctx, h.Connections, connect); err != nil {
		return err
	}
	after, err := r.meter.read()
	if err != nil {
		return err
	}
	took := after.at.Sub(before.at)
	r.result.Latency = connects.latency()
	r.result.figure("all back after", "s", took.Seconds(), Less)
	r.result.figure("connects", "connections/s", float64(h.Connections)/took.Seconds(), More)
	r.costs(before, after, h.Connections, "connection")
	r.percentiles()
	return nil
}
