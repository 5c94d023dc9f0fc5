package load

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/allsparkrt/allspark/bench/peer"
)

// Scenario is something that is done to a target.
type Scenario struct {
	Name  string // as on the command line
	Title string // for people, short
	About string // for people: what is done and counted, one sentence
	Least string // the scenario that does the same where there is least; empty: there is none

	clients int                   // connections, for the limits of target and machine
	crowd   bool                  // their number is what it is about: servers may know nothing of one another
	needs   func(peer.Can) string // what is missing; empty: nothing
	run     func(context.Context, *run) error
}

// shape is what carries a scenario out.
type shape interface {
	run(context.Context, *run) error
}

func volatile(can peer.Can) string {
	if !can.Volatile {
		return "volatile messages"
	}
	return ""
}

func durable(can peer.Can) string {
	if !can.Durable {
		return "durable messages"
	}
	return ""
}

func topics(can peer.Can) string {
	if !can.Topics {
		return "topics"
	}
	return ""
}

func waiting(can peer.Can) string {
	if !can.Offline {
		return "messages that wait for who is away"
	}
	return ""
}

func groups(can peer.Can) string {
	if !can.Groups {
		return "groups"
	}
	return ""
}

// Scenarios returns all scenarios. Quick ones show in seconds that everything
// works; their figures mean nothing.
func Scenarios(quick bool) []Scenario {
	var all []Scenario
	add := func(name, title, about string, clients int, needs func(peer.Can) string, s shape) {
		all = append(all, Scenario{Name: name, Title: title, About: about, clients: clients, needs: needs, run: s.run})
	}
	// of returns the value for a full run, or the one for a quick one.
	of := func(full, short int) int {
		if quick {
			return short
		}
		return full
	}
	seconds := func(full int) time.Duration {
		if quick {
			return 300 * time.Millisecond
		}
		return time.Duration(full) * time.Second
	}

	for _, p := range []struct {
		users    int
		title    string
		messages int
	}{{100, "100", 300_000}, {1000, "1,000", 300_000}} {
		users := of(p.users, p.users/20)
		add(fmt.Sprintf("p2p-%d", p.users), "User to user, "+p.title+" clients, closed loop",
			"Users send 200-byte volatile messages to users picked at random, the next one when the last one has arrived.",
			users, volatile, pairs{Users: users, Messages: of(p.messages, 2000), Inflight: 1})
	}
	for _, p := range []struct{ rate, name int }{{5000, 5}, {20_000, 20}} {
		users := of(1000, 20)
		add(fmt.Sprintf("rate-%dk", p.name), fmt.Sprintf("User to user, %d,000 messages a second", p.name),
			"1,000 users, 200-byte volatile messages at a fixed rate; latencies count from the moment each was due.",
			users, volatile, pairs{Users: users, Messages: of(10*p.rate, p.rate/5), Rate: float64(p.rate)})
	}
	for _, p := range []struct{ listeners, single, pipelined int }{{1000, 200, 1000}, {10_000, 30, 100}} {
		listeners := of(p.listeners, p.listeners/50)
		for _, way := range []struct {
			name, title, about string
			messages, inflight int
		}{
			{"", "one at a time", "the next one when all have the last one", p.single, 1},
			{"-pipelined", "pipelined", "the next one when fewer than 8 have not reached all", p.pipelined, 8},
		} {
			add(fmt.Sprintf("fanout-%dk%s", p.listeners/1000, way.name),
				fmt.Sprintf("One speaks, %d,000 listen, %s", p.listeners/1000, way.title),
				"200-byte volatile messages to a topic, "+way.about+"; counted are deliveries.",
				listeners+1, topics, fanOut{Listeners: listeners, Messages: of(way.messages, 20), Inflight: way.inflight})
		}
	}
	for _, n := range []int{10_000, 50_000} {
		conns := of(n, n/500)
		add(fmt.Sprintf("idle-%dk", n/1000), fmt.Sprintf("%d,000 idle connections", n/1000),
			"Connections that follow a topic of ten do nothing, then send five messages each, then do nothing again; latencies are those of connecting.",
			conns, volatile, idle{Connections: conns, Messages: 5, Rate: 5000, Rest: seconds(5), Watch: seconds(30)})
		all[len(all)-1].crowd = true
		if n == 10_000 {
			add("idle-10k-members", "10,000 idle connections, members of groups",
				"Connections that each are one of a durable group of ten, made before, and watch whether three others are online; "+
					"they do nothing, then send five volatile messages each, then do nothing again; latencies are those of connecting, CPU that of watching as well.",
				conns, volatile, idle{Connections: conns, Members: true, Messages: 5, Rate: 5000, Rest: seconds(5), Watch: seconds(30)})
		}
	}
	for _, d := range []struct{ senders, inflight, messages int }{{1, 1, 3000}, {16, 1, 30_000}, {256, 1, 100_000}, {256, 32, 200_000}} {
		name, title, way := fmt.Sprintf("durable-%d", d.senders), fmt.Sprintf("Durable messages, %d at a time", d.senders), "each the next one when the server has the last one on disk"
		if d.inflight > 1 {
			name, title = name+"-pipelined", fmt.Sprintf("Durable messages, %d senders, pipelined", d.senders)
			way = fmt.Sprintf("each the next one when fewer than %d of its own are not known to be on disk", d.inflight)
		}
		users := max(2, d.senders)
		add(name, title, "Senders write 200-byte messages to users who are there, "+way+".", users, durable, pairs{
			Users: users, Senders: d.senders, Messages: of(d.messages, 200+2*d.senders), Inflight: d.inflight, Durable: true,
		})
	}
	for _, n := range []int{1000, 10_000, 50_000} {
		conns := of(n, n/100)
		add(fmt.Sprintf("size-connections-%dk", n/1000), fmt.Sprintf("100 of %d,000 speak", n/1000),
			"100 users send 200-byte volatile messages to users picked at random among all who are connected; what it costs should not depend on how many these are.",
			conns, volatile, pairs{Users: conns, Senders: min(100, conns), Messages: of(200_000, 1000), Inflight: 1})
		all[len(all)-1].crowd = true
	}
	for _, n := range []int{1000, 10_000, 50_000} {
		conns, active := of(n, n/100), of(1000, 10)
		add(fmt.Sprintf("size-quiet-%dk", n/1000), fmt.Sprintf("1,000 of %d,000 write to one another", n/1000),
			"1,000 users send 200-byte volatile messages to one another, the others are connected and quiet; what it costs should not depend on how many these are.",
			conns, volatile, pairs{Users: conns, Senders: active, Among: active, Messages: of(300_000, 1000), Inflight: 1})
		all[len(all)-1].crowd = true
	}
	for _, size := range []struct {
		name, title string
		stored      int
	}{{"0", "none is stored", 0}, {"1m", "1,000,000 are stored", of(1_000_000, 1000)}, {"10m", "10,000,000 are stored", of(10_000_000, 2000)}} {
		users := of(256, 16)
		// So many that what a server does about them later is counted as well.
		add("size-stored-"+size.name, "Durable messages when "+size.title,
			"As durable-256, after so many messages and a pause; what it costs should not depend on how many these are.",
			users, durable, pairs{Users: users, Messages: of(250_000, 500), Inflight: 1, Durable: true, Stored: size.stored})
	}
	for _, size := range []struct {
		name, title string
		groups      int
	}{{"512", "512", of(512, 32)}, {"10k", "10,000", of(10_000, 64)}, {"100k", "100,000", of(100_000, 256)}} {
		senders := of(256, 16)
		add("size-groups-"+size.name, "Durable messages to "+size.title+" groups",
			"256 senders as in durable-256, but each message goes to one of its sender's groups, picked at random, each of it and one of 512 listeners; 300,000 have been sent before. What it costs should not depend on how many groups there are.",
			3*senders, groups, pairs{
				Users: 3 * senders, Senders: senders, Messages: of(250_000, 500), Inflight: 1, Durable: true,
				Groups: size.groups, Stored: of(300_000, 500),
			})
	}
	for _, size := range []struct {
		name, title string
		groups      int
	}{{"10", "10", of(10, 4)}, {"10k", "10,000", of(10_000, 64)}, {"100k", "100,000", of(100_000, 256)}} {
		senders := of(256, 16)
		add("size-sessions-"+size.name, "Durable messages to ten groups of "+size.title,
			"10 senders write 200-byte messages to a group of their own with a listener, 16 unanswered each; the other groups are quiet, each of two of 768 users, all of whom are connected; 50,000 messages have been sent before. What it costs should not depend on how many groups there are.",
			3*senders, groups, pairs{
				Users: 3 * senders, Senders: senders, Messages: of(250_000, 500), Inflight: 16, Durable: true,
				Groups: size.groups, Spoken: of(10, 4), Stored: of(50_000, 500),
			})
	}
	receivers := of(200, 10)
	add("offline", "Messages for users who are away", "16 senders write to 200 users who are away, 4 unanswered each; then all of these come back.",
		receivers+16, waiting, offline{Receivers: receivers, Senders: 16, Messages: of(40_000, 1000), Inflight: 4})
	members := of(256, 16)
	add("group", "A group of 256, half of them away", "8 members speak in turn, the next message when fewer than 4 have not reached all who are there, for a minute at most; then the others come back.",
		members, groups, group{Members: members, Away: members / 2, Speakers: min(8, members/4), Messages: of(2000, 40), Longest: time.Minute, Inflight: 4})
	users := of(1000, 21)
	add("mesh", "User to user across servers, 5,000 messages a second",
		"As rate-5k, but every message goes to a user of another server, where a target has several.",
		users, volatile, pairs{Users: users, Messages: of(50_000, 1000), Rate: 5000, Apart: true})
	conns := of(5000, 100)
	add("herd", "5,000 come back at once", "All connections are lost at the same moment and opened again, 16 at a time; latencies are those of connecting.",
		conns, volatile, herd{Connections: conns})
	users = of(2000, 60)
	add("mixed", "A mixed day", "2,000 users of whom 200 write 1,000 messages a second (durable with receipts, signals, groups of ten); all watch three others, and 20 a second go and come back.",
		users, volatile, mixed{Users: users, Active: of(200, 20), Rate: float64(of(1000, 500)), Lasts: max(seconds(20), time.Second), Churn: 20})
	compareSizes(all)
	return all
}

// compareSizes has each of the scenarios size-WHAT-HOWMANY name the first of its kind.
func compareSizes(all []Scenario) {
	least := make(map[string]string)
	for i := range all {
		what, _, ok := strings.Cut(strings.TrimPrefix(all[i].Name, "size-"), "-")
		if !ok || !strings.HasPrefix(all[i].Name, "size-") {
			continue
		}
		if least[what] == "" {
			least[what] = all[i].Name
		} else {
			all[i].Least = least[what]
		}
	}
}
