package storetest

import (
	"fmt"
	"slices"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/push"
)

func token(value string, node envelope.NodeID, registered int64) push.Token {
	return push.Token{Service: push.FCM, Value: value, Node: node, Client: envelope.ClientID(node) + "-user", Registered: registered}
}

// tokens fails unless each of some devices, and its user, has exactly its token of those.
func (s *suite) tokens(nodes []envelope.NodeID, want ...push.Token) {
	s.Helper()
	got, err := s.store.TokensOf(s.Context(), nodes)
	s.noError(err)
	s.equal("tokens", sorted(plainTokens(got)), sorted(plainTokens(want)))
	for _, node := range nodes {
		got, err := s.store.TokensOfClient(s.Context(), envelope.ClientID(node)+"-user")
		s.noError(err)
		of := slices.DeleteFunc(slices.Clone(want), func(t push.Token) bool { return t.Client != envelope.ClientID(node)+"-user" })
		s.equal("tokens of the user of "+string(node), sorted(plainTokens(got)), sorted(plainTokens(of)))
	}
}

// plainTokens makes no keys and empty ones the same.
func plainTokens(tokens []push.Token) []push.Token {
	all := slices.Clone(tokens)
	for i := range all {
		all[i].P256DH, all[i].Auth = append([]byte(nil), all[i].P256DH...), append([]byte(nil), all[i].Auth...)
	}
	return all
}

func pushTokens(s *suite) {
	ctx := s.Context()
	both := []envelope.NodeID{alice, bob}
	s.tokens(both)
	first := token("t", alice, 1<<40)
	s.noError(s.store.PutToken(ctx, first))
	full := push.Token{
		Service: push.WebPush, Value: "https://push.example.com/t", App: "app", Sandbox: true, P256DH: []byte{4, 0, 1}, Auth: []byte{0, 2},
		Locale: "de-AT", Node: bob, Client: "bob-user", Registered: 7, JTI: "key", Issued: 1 << 41,
	}
	s.noError(s.store.PutToken(ctx, full))
	s.tokens(both, first, full)
	s.tokens(both[:1], first)
	s.tokens(nil)

	// It moves to who registers it later, and not back to who did before.
	moved := token("t", bob, 1<<40+1)
	s.noError(s.store.PutToken(ctx, moved))
	s.noError(s.store.PutToken(ctx, first))
	s.tokens(both, moved, full)
	again := moved
	again.App, again.Client = "other", "alice-user"
	s.noError(s.store.PutToken(ctx, again))
	s.tokens(both, again, full)
	same := push.Token{Service: push.APNs, Value: "t", App: "a", Node: alice, Client: "alice-user", Registered: 5}
	s.noError(s.store.PutToken(ctx, same)) // of another service
	s.tokens(both, again, full, same)

	for _, kept := range []struct {
		token push.Token
		upto  int64
	}{{again, again.Registered - 1}, {first, 1 << 50}, {token("none", bob, 1), 1 << 50}} {
		s.noError(s.store.DropToken(ctx, kept.token, kept.upto))
		s.tokens(both, again, full, same)
	}
	s.noError(s.store.DropToken(ctx, again, again.Registered))
	s.tokens(both, full, same)
}

// pushRevokedTokens drops tokens by the credential that they were registered with.
func pushRevokedTokens(s *suite) {
	ctx := s.Context()
	with := func(value string, node envelope.NodeID, jti string, issued int64) push.Token {
		t := token(value, node, 1)
		t.JTI, t.Issued = jti, issued
		s.noError(s.store.PutToken(ctx, t))
		return t
	}
	both := []envelope.NodeID{alice, bob}
	old, unknown := with("old", alice, "a", 100), with("unknown", bob, "", 0)
	same, late := with("same", bob, "b", 200), with("late", alice, "b", 1<<41)
	for _, jti := range []string{"c", "A", "bb"} { // which nothing was registered with
		s.noError(s.store.DropTokens(ctx, jti, 1<<50))
		s.tokens(both, old, unknown, same, late)
	}
	s.noError(s.store.DropTokens(ctx, "a", 0))
	s.tokens(both, unknown, same, late)
	old = with("old", alice, "a", 100)
	s.noError(s.store.DropTokens(ctx, "", 0))
	s.tokens(both, old, unknown, same, late)
	s.noError(s.store.DropTokens(ctx, "", 200)) // and what does not say when
	s.tokens(both, same, late)
	s.noError(s.store.DropTokens(ctx, "b", 0))
	s.tokens(both)
}

// pushFailed lists dead letters in the order of the devices, page by page.
func pushFailed(s *suite) {
	ctx := s.Context()
	page := func(after envelope.NodeID, limit int, want ...envelope.NodeID) {
		s.Helper()
		jobs, err := s.store.FailedJobs(ctx, after, limit)
		s.noError(err)
		var got []envelope.NodeID
		for _, j := range jobs {
			got = append(got, envelope.NodeID(j.Addr.ID))
		}
		s.equal(fmt.Sprintf("%d failed behind %q", limit, after), got, append([]envelope.NodeID(nil), want...))
	}
	page("", 10)
	nodes := []envelope.NodeID{"b", "B", "b:2", "b2", "c", "a", "b.1"}
	for _, node := range nodes {
		for _, j := range []push.Job{
			{JobKey: push.JobKey{Task: push.Tell, Addr: node.Address()}, Version: 1, Failed: &push.DeadLetter{At: 7, Log: node.Address(), Seq: 1, Service: push.FCM}},
			{JobKey: push.JobKey{Task: push.Look, Addr: node.Address()}, Version: 1, Due: 5},
			{JobKey: push.JobKey{Task: push.Tell, Addr: (node + "-fine").Address()}, Version: 1, Due: 5},
		} {
			s.noError(s.store.PutJob(ctx, j))
		}
	}
	slices.Sort(nodes)
	page("", 10, nodes...)
	for i, node := range nodes {
		page(node, 2, nodes[i+1:min(i+3, len(nodes))]...)
	}
	page("b-none", 1, "b.1")
	fine := s.job(push.JobKey{Task: push.Tell, Addr: envelope.NodeID("b2").Address()})
	fine.Failed, fine.Version = nil, fine.Version+1
	s.noError(s.store.PutJob(ctx, fine))
	page("b.1", 10, "b:2", "c")
}

// pushTokenRace lets a token be dropped as dead while it is registered again:
// the one registered later stays.
func pushTokenRace(s *suite) {
	for i := range int64(10) {
		old, again := token("t", alice, 2*i), token("t", alice, 2*i+1)
		s.noError(s.store.PutToken(s.Context(), old))
		for _, err := range race(4, func(n int) error {
			if n%2 == 0 {
				return s.store.DropToken(s.Context(), old, old.Registered)
			}
			return s.store.PutToken(s.Context(), again)
		}) {
			s.noError(err)
		}
		s.tokens([]envelope.NodeID{alice}, again)
	}
}

func pushMutes(s *suite) {
	ctx := s.Context()
	mutes := func(node envelope.NodeID, want ...push.Mute) {
		s.Helper()
		got, err := s.store.Mutes(ctx, node)
		s.noError(err)
		s.equal("mutes of "+string(node), sorted(got), sorted(want))
	}
	mutes(bob)
	room := push.Mute{Node: bob, Log: envelope.SessionID("room").Address(), Until: 1 << 41}
	user := push.Mute{Node: bob, Log: envelope.ClientID("room").Address()}
	for _, m := range []push.Mute{room, user, {Node: "bob.1", Log: room.Log}} {
		s.noError(s.store.PutMute(ctx, m))
	}
	mutes(bob, room, user)
	room.Until = 0
	s.noError(s.store.PutMute(ctx, room))
	mutes(bob, room, user)
	for range 2 {
		s.noError(s.store.DropMute(ctx, bob, room.Log))
		mutes(bob, user)
	}
}

// jobs fails unless those are exactly the jobs there are of some.
func (s *suite) jobs(keys []push.JobKey, want ...push.Job) {
	s.Helper()
	got, err := s.store.Jobs(s.Context(), keys)
	s.noError(err)
	s.equal("jobs", plainJobs(got), plainJobs(want))
}

// plainJobs prints jobs with what their pointers lead to, in order.
func plainJobs(jobs []push.Job) []string {
	var all []string
	for _, j := range jobs {
		failed := push.DeadLetter{}
		if j.Failed != nil {
			failed = *j.Failed
		}
		j.Failed = nil
		all = append(all, fmt.Sprintf("%+v %+v", j, failed))
	}
	return sorted(all)
}

func (s *suite) due(now int64, limit int, want ...push.Job) {
	s.Helper()
	got, err := s.store.DueJobs(s.Context(), now, limit)
	s.noError(err)
	s.equal(fmt.Sprint("due at ", now), plainJobs(got), plainJobs(want))
}

func pushJobs(s *suite) {
	ctx := s.Context()
	look := push.JobKey{Task: push.Look, Addr: envelope.SessionID("room").Address()}
	tell := push.JobKey{Task: push.Tell, Addr: bob.Address()}
	other := push.JobKey{Task: push.Look, Addr: bob.Address()} // the same address
	keys := []push.JobKey{look, tell, other}
	s.jobs(keys)
	s.jobs(nil)
	s.due(1<<60, 10)
	s.noError(s.store.Touch(ctx, nil, 1))

	j := push.Job{JobKey: tell, Due: 100}
	for _, v := range []uint64{0, 2, 3} {
		j.Version = v
		s.isError(fmt.Sprint("version ", v, " of nothing"), s.store.PutJob(ctx, j), push.ErrChanged)
		s.isError("DropJob of nothing", s.store.DropJob(ctx, j), push.ErrChanged)
	}
	j.Version = 1
	s.noError(s.store.PutJob(ctx, j))
	s.noError(s.store.Touch(ctx, []push.JobKey{look, other}, 90))
	wake, second := s.job(look), s.job(other)
	if wake.Due != 90 || wake.Version == 0 || second.Due != 90 {
		s.Fatalf("touched from nothing they are %+v and %+v", wake, second)
	}
	s.jobs(keys, j, wake, second)
	for v, change := range []func(*push.Job){
		func(j *push.Job) {
			j.Opens, j.Attempts = 1<<41, 3
			j.Told = map[envelope.Address]uint64{look.Addr: 1 << 40, bob.Address(): 1}
		},
		func(j *push.Job) { j.Due = 0 },
		func(j *push.Job) {
			j.Failed = &push.DeadLetter{At: 1 << 41, Log: look.Addr, Seq: 1 << 40, Service: push.APNs, Reason: "BadTopic", Attempts: 8}
		},
		func(j *push.Job) { j.Due, j.Told = 100, nil },
	} {
		before := j
		change(&j)
		for _, wrong := range []uint64{0, 1, before.Version, before.Version + 2} {
			j.Version = wrong
			s.isError(fmt.Sprint("version ", wrong, " over ", before.Version), s.store.PutJob(ctx, j), push.ErrChanged)
			s.jobs(keys, before, wake, second)
		}
		j.Version = uint64(v + 2)
		s.noError(s.store.PutJob(ctx, j))
		s.jobs(keys, j, wake, second)
	}
	failed, err := s.store.FailedJobs(ctx, "", 10)
	s.noError(err)
	s.equal("failed", plainJobs(failed), plainJobs([]push.Job{j}))

	s.due(89, 10)
	s.due(90, 10, wake, second)
	s.due(100, 10, wake, second, j)
	if first, err := s.store.DueJobs(ctx, 100, 2); err != nil || len(first) != 2 || first[0].Due != 90 || first[1].Due != 90 {
		s.Fatalf("the first two due are %+v, %v", first, err)
	}
	// Touch brings forward and never puts off, and is a change always.
	touched := func(want push.Job, due int64) push.Job {
		s.Helper()
		s.noError(s.store.Touch(ctx, []push.JobKey{want.JobKey}, due))
		got := s.job(want.JobKey)
		if got.Version <= want.Version {
			s.Fatalf("the version is %d after %d", got.Version, want.Version)
		}
		want.Version = got.Version
		s.equal("touched", plainJobs([]push.Job{got}), plainJobs([]push.Job{want}))
		return got
	}
	wake = touched(wake, 95)
	j.Due = 95
	j = touched(j, 95)
	s.isError("a version before Touch", s.store.DropJob(ctx, push.Job{JobKey: look, Version: 1}), push.ErrChanged)
	wake.Claim, wake.Due, wake.Version = "claim", 150, wake.Version+1
	s.noError(s.store.PutJob(ctx, wake))
	wake = touched(wake, 95) // who has claimed it finds out
	s.noError(s.store.DropJob(ctx, wake))
	s.due(1<<60, 10, second, j)
	j.Due, j.Failed, j.Version = 0, nil, j.Version+1
	s.noError(s.store.PutJob(ctx, j))
	s.due(1<<60, 10, second)
	if failed, err = s.store.FailedJobs(ctx, "", 10); err != nil || len(failed) != 0 {
		s.Fatalf("failed are %+v, %v", failed, err)
	}
	j.Due = 200
	touched(j, 200)
}

func (s *suite) job(key push.JobKey) push.Job {
	s.Helper()
	jobs, err := s.store.Jobs(s.Context(), []push.JobKey{key})
	s.noError(err)
	if len(jobs) != 1 {
		s.Fatalf("%d jobs, want one", len(jobs))
	}
	return jobs[0]
}

// touchRace lets a job be touched while it is claimed and dropped: what was
// touched after the claim is there in the end.
func touchRace(s *suite) {
	ctx := s.Context()
	key := push.JobKey{Task: push.Look, Addr: bob.Address()}
	for range 10 {
		s.noError(s.store.Touch(ctx, []push.JobKey{key}, 1))
		j := s.job(key)
		j.Claim, j.Due, j.Version = "claim", 100, j.Version+1
		s.noError(s.store.PutJob(ctx, j))
		errs := race(2, func(i int) error {
			if i == 0 {
				return s.store.Touch(ctx, []push.JobKey{key}, 1)
			}
			return s.store.DropJob(ctx, j)
		})
		s.noError(errs[0])
		if j = s.job(key); errs[1] == nil && (j.Due != 1 || j.Claim != "") {
			s.Fatalf("touched after it was dropped it is %+v", j)
		}
		s.noError(s.store.DropJob(ctx, j))
	}
}

func pushJobRace(s *suite)       { s.raceJobs(s.store, s.store) }
func secondPushJobRace(s *suite) { s.raceJobs(s.store, s.second()) }

// raceJobs lets eight goroutines claim a job, by turns through either store.
func (s *suite) raceJobs(stores ...Store) {
	key := push.JobKey{Task: push.Tell, Addr: bob.Address()}
	for version := uint64(1); version <= 8; version++ {
		put := func(i int) push.Job { return push.Job{JobKey: key, Due: int64(i + 1), Version: version} }
		winner := s.oneWinner(race(8, func(i int) error {
			return stores[i%len(stores)].PutJob(s.Context(), put(i))
		}), push.ErrChanged)
		s.jobs([]push.JobKey{key}, put(winner))
	}
}
