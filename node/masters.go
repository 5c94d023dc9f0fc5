package node

import (
	"context"
	"sync"
	"time"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/session"
)

// masters sees to it that the games with members connected here have a master.
//
// Who is to be master only the session's row decides, so all servers with members
// of a game may look after it at once. A change in who is in a game is a reason to
// look at its row; the entries of the log tell of it, and what they do not tell,
// since a server died between the change and its consequences, is found when the
// row is looked at from time to time. A master is lost when no server has had an
// edge for its name for a while.
//
// Its lock comes before that of the registry.
type masters struct {
	n    *Node
	kick chan struct{} // holds a token when a game is to be looked at

	mu    sync.Mutex
	games map[envelope.SessionID]*game // guarded by mu
}

// game is one that is looked after; its fields are guarded by masters' mu.
type game struct {
	due    bool // its row is to be looked at
	looked time.Time
	master envelope.NodeID // as the row was then
	term   uint64
	away   time.Time // since when the master is connected nowhere; zero: it is
}

func newMasters(n *Node) *masters {
	return &masters{n: n, kick: make(chan struct{}, 1), games: make(map[envelope.SessionID]*game)}
}

// watch looks after a game, of which a member is connected here now. It never
// blocks.
func (s *masters) watch(id envelope.SessionID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.games[id]
	if g == nil {
		g = new(game)
		s.games[id] = g
	}
	if g.master == "" && !g.due {
		g.due = true
		s.wake()
	}
}

// changed says that a game may need another master, or has one. It never blocks.
func (s *masters) changed(id envelope.SessionID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.games[id]; g != nil {
		g.due = true
		s.wake()
	}
}

// observe learns from an entry of a session's log whether that is so.
func (s *masters) observe(env *envelope.Envelope) {
	if !env.HasType || env.Seq == 0 {
		return
	}
	switch env.Type {
	case envelope.TypeMaster:
		s.changed(env.DestSession)
	case envelope.TypeJoined, envelope.TypeLeft:
		s.mu.Lock()
		g := s.games[env.DestSession]
		concerned := g != nil && (g.master == "" || g.master == env.SrcNode)
		s.mu.Unlock()
		if concerned {
			s.changed(env.DestSession)
		}
	}
}

func (s *masters) wake() {
	poke(s.kick)
}

func (s *masters) run(ctx context.Context) {
	every := s.n.timing.MasterGrace / 5
	timer := time.NewTimer(every)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.kick:
			s.settle(ctx)
		case <-timer.C:
			s.look(ctx)
			timer.Reset(every)
		}
	}
}

// settle looks at the rows of the games that call for it.
func (s *masters) settle(ctx context.Context) {
	for _, id := range s.take() {
		s.succeed(ctx, id, 0)
	}
}

// take returns the games whose rows are to be looked at.
func (s *masters) take() []envelope.SessionID {
	s.mu.Lock()
	defer s.mu.Unlock()
	var due []envelope.SessionID
	now := time.Now()
	for id, g := range s.games {
		if g.due || now.Sub(g.looked) > s.n.timing.Sweep {
			g.due = false
			due = append(due, id)
		}
	}
	return due
}

// look finds out which masters are connected nowhere, and gives the games of
// those that have not been for long another one. Games with no member here any
// more it forgets.
func (s *masters) look(ctx context.Context) {
	s.settle(ctx)
	s.mu.Lock()
	of := make(map[envelope.SessionID]envelope.NodeID, len(s.games))
	var names []envelope.NodeID
	for id, g := range s.games {
		if !s.n.conns.hasFollower(id.Address()) {
			delete(s.games, id)
		} else if g.master != "" {
			of[id] = g.master
			names = append(names, g.master)
		}
	}
	s.mu.Unlock()
	if len(names) == 0 {
		return
	}
	here, err := s.n.connected(ctx, names)
	if err != nil {
		if ctx.Err() == nil {
			s.n.log.Warn("cannot look for the masters of games; trying again", "err", err)
		}
		return
	}
	for id, term := range s.lost(of, here) {
		s.succeed(ctx, id, term)
	}
}

// lost notes who of some masters is connected, and returns the terms of those
// who have not been for long.
func (s *masters) lost(of map[envelope.SessionID]envelope.NodeID, here map[envelope.NodeID]bool) map[envelope.SessionID]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	terms := make(map[envelope.SessionID]uint64)
	now := time.Now()
	for id, master := range of {
		g := s.games[id]
		switch {
		case g == nil || g.master != master: // meanwhile
		case here[master]:
			g.away = time.Time{}
		case g.away.IsZero():
			g.away = now
		case now.Sub(g.away) >= s.n.timing.MasterGrace:
			g.away = now // there may be no other yet
			terms[id] = g.term
		}
	}
	return terms
}

// succeed gives a game another master if it needs one. The term is that of a
// master who is lost; 0: who has left.
func (s *masters) succeed(ctx context.Context, id envelope.SessionID, term uint64) {
	ses, err := s.n.sessions.Succeed(ctx, id, term, s.n.connected)
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.games[id]
	switch {
	case g == nil:
	case err != nil:
		g.due = true // with the next look
		if ctx.Err() == nil {
			s.n.log.Warn("cannot look after the master of a game; trying again", "session", id, "err", err)
		}
	case ses.MasterTerm != g.term:
		g.master, g.term, g.looked, g.away = ses.Master, ses.MasterTerm, time.Now(), time.Time{}
	default:
		g.looked = time.Now()
	}
}

// succession sees to it that a game has a master after a membership has changed:
// at once, so that who has left as the master is answered when it is not it any
// more. What fails here is done by who looks after the game.
func (n *Node) succession(ctx context.Context, m session.Member) {
	if m.Kind != session.Game {
		return
	}
	if _, err := n.sessions.Succeed(ctx, m.Session, 0, n.connected); err != nil {
		n.log.Debug("a game has no new master yet", "session", m.Session, "err", err)
		n.masters.changed(m.Session)
	}
}

// connected returns which of some names, of devices and aliases, are connected
// somewhere.
func (n *Node) connected(ctx context.Context, names []envelope.NodeID) (map[envelope.NodeID]bool, error) {
	addrs := make([]envelope.Address, 0, len(names))
	for _, name := range names {
		if name != "" {
			addrs = append(addrs, name.Address())
		}
	}
	online, err := n.graph.Online(ctx, addrs)
	if err != nil {
		return nil, envelope.BusyError(1000, "the store is away", err)
	}
	here := make(map[envelope.NodeID]bool, len(online))
	for addr := range online {
		here[envelope.NodeID(addr.ID)] = online[addr]
	}
	return here, nil
}
