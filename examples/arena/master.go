package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/allsparkrt/allspark/client"
	"github.com/allsparkrt/allspark/envelope"
)

// ticksPerSecond is how often the world moves, and players are told.
const ticksPerSecond = 20

// Header is what a player has to know before anything else: the session's
// header, which it gets first when it joins.
type Header struct {
	Width  float64 `json:"width"`
	Height float64 `json:"height"`
	TickMS int     `json:"tick_ms"`
	Goal   string  `json:"goal"`
}

// steering is what a player says.
type steering struct {
	X float64 `json:"x"`
	Y float64 `json:"y"`
}

// victory is told when a round has been won.
type victory struct {
	Winner string `json:"winner"`
	Round  int    `json:"round"`
}

// Master runs the game: it is the session's master, or stands by to become it.
// While it is, it hears what the players say, and they hear only it.
type Master struct {
	client  *client.Client
	session envelope.SessionID
	self    envelope.NodeID // this process's name in the session
	deputy  envelope.NodeID
	log     *slog.Logger
	calls   sync.WaitGroup // that nobody waits for

	// only the goroutine of Run
	world *World // nil while another one is master
	last  State  // what the other one told last
	ticks int
}

// Options say where the game is played and by whom.
type Options struct {
	Servers []string // base URLs of AllSpark servers
	AuthKey string   // of the device that this process is
	Session envelope.SessionID
	Deputy  envelope.NodeID // who may become master when this one is lost; "" nobody
	Log     *slog.Logger
}

// NewMaster makes the game if it does not exist, or joins it, and connects.
func NewMaster(ctx context.Context, o Options) (*Master, error) {
	c, err := client.New(client.Options{Servers: o.Servers, AuthKey: o.AuthKey, Session: o.Session, FromNow: true, Logger: o.Log})
	if err != nil {
		return nil, err
	}
	m := &Master{client: c, session: o.Session, deputy: o.Deputy, log: o.Log}
	if err := m.enter(ctx); err != nil {
		return nil, errors.Join(err, c.Close(ctx))
	}
	return m, nil
}

// enter makes this device a member: the first one makes the game, and so is its
// owner and master.
func (m *Master) enter(ctx context.Context) error {
	_, err := m.client.CreateSession(ctx, m.session, envelope.Settings{
		Kind: new("game"), Successors: new("moderators"), // players never run the game
	})
	switch envelope.CodeOf(err) {
	case "":
		if _, err = m.client.SetHeader(ctx, m.session, document(header())); err != nil {
			return err
		}
	case envelope.Conflict: // another one has made it
	default:
		return err
	}
	joined, err := m.client.JoinSession(ctx, m.session)
	m.self = joined.Node
	return err
}

// Run plays until ctx is over. Messages and ticks meet in one goroutine.
func (m *Master) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		m.calls.Wait()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = m.client.Close(ctx) // what it cannot say any more is not worth waiting for
	}()
	messages := make(chan client.Message)
	ended := make(chan error, 1)
	go func() {
		for msg, err := range m.client.Messages(ctx) {
			if err != nil {
				ended <- err
				return
			}
			select {
			case messages <- msg:
			case <-ctx.Done():
			}
		}
		ended <- ctx.Err()
	}()
	if err := m.lookForMaster(ctx); err != nil {
		return err
	}
	ticker := time.NewTicker(time.Second / ticksPerSecond)
	defer ticker.Stop()
	for {
		select {
		case msg := <-messages:
			if msg.DestSession == m.session {
				m.hear(ctx, msg)
			}
		case <-ticker.C:
			if m.world != nil {
				m.tick(ctx)
			}
		case err := <-ended:
			return err
		}
	}
}

// lookForMaster finds out who is master now; who becomes it later is told by
// entries of the session's log.
func (m *Master) lookForMaster(ctx context.Context) error {
	s, err := m.client.Session(ctx, m.session)
	if err != nil {
		return err
	}
	m.reign(ctx, s.Master)
	return nil
}

// reign begins or ends this process's time as master.
func (m *Master) reign(ctx context.Context, master envelope.NodeID) {
	switch {
	case master == m.self && m.world == nil:
		m.world = Resume(m.last, rand.NewPCG(rand.Uint64(), rand.Uint64()))
		m.promote(ctx)
		m.log.Info("this process runs the game", "tick", m.last.Tick)
	case master != m.self && m.world != nil:
		m.last, m.world = m.world.State(), nil
		m.log.Info("another one runs the game", "master", master)
	}
}

// promote makes the deputy a moderator, who may become master, once it is there.
func (m *Master) promote(ctx context.Context) {
	if m.deputy == "" {
		return
	}
	m.calls.Go(func() {
		_, err := m.client.SetRole(ctx, m.session, m.deputy, "moderator")
		if err != nil && envelope.CodeOf(err) != envelope.NotFound {
			m.log.Warn("the deputy is no moderator", "err", err)
		}
	})
}

// hear takes one message of the session.
func (m *Master) hear(ctx context.Context, msg client.Message) {
	payload, _ := msg.Member("payload")
	switch {
	case msg.HasType && msg.Type == envelope.TypeMaster:
		var note struct {
			Node envelope.NodeID `json:"node_id"`
		}
		if json.Unmarshal(payload, &note) == nil {
			m.reign(ctx, note.Node)
		}
	case msg.HasType && msg.Type == envelope.TypeJoined && m.world != nil && msg.SrcNode == m.deputy:
		m.promote(ctx)
	case msg.HasType && msg.Type == envelope.TypeLeft && m.world != nil:
		m.world.Leave(short(msg.SrcNode))
	case msg.HasType && envelope.SystemType(msg.Type):
	case m.world == nil: // what the master says; the next one goes on from it
		var s State
		if json.Unmarshal(payload, &s) == nil && s.Tick > m.last.Tick {
			m.last = s
		}
	default:
		var s steering
		if json.Unmarshal(payload, &s) == nil {
			m.world.Steer(short(msg.SrcNode), s.X, s.Y)
		}
	}
}

// tick moves the world and tells everybody. Of the state only the newest
// matters to a player that is slow; who has won is worth keeping.
func (m *Master) tick(ctx context.Context) {
	m.ticks++
	winner := m.world.Step()
	m.say(ctx, envelope.Envelope{Class: envelope.Latest, Key: "world"}, m.world.State())
	if winner != "" {
		m.say(ctx, envelope.Envelope{}, victory{winner, m.world.round - 1})
		m.log.Info("a round is over", "winner", winner)
	}
}

func (m *Master) say(ctx context.Context, e envelope.Envelope, payload any) {
	e.DestSession, e.Body = m.session, append([]byte(`"payload":`), document(payload)...)
	err := m.client.SendAsync(ctx, e, func(_ client.Ack, err error) {
		if err != nil {
			m.log.Warn("not said", "err", err)
		}
	})
	if err != nil && m.ticks%ticksPerSecond == 0 { // while the connection is away
		m.log.Warn("not said", "err", err)
	}
}

// document returns what is told as JSON.
func document(v any) json.RawMessage {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // numbers and strings
	}
	return text
}

// short returns of an alias the part behind the session's id: the players' name
// for one another.
func short(id envelope.NodeID) string {
	if _, name, ok := id.Alias(); ok {
		return name
	}
	return string(id)
}

// header returns what players are told first.
func header() Header {
	return Header{
		Width: width, Height: height, TickMS: 1000 / ticksPerSecond,
		Goal: fmt.Sprintf("Who has %d stars first wins the round.", toWin),
	}
}
