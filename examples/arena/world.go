package main

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
)

// The arena, in its own units of length, and what happens in one tick.
const (
	width, height = 1000.0, 600.0
	playerRadius  = 15.0
	starRadius    = 10.0
	speed         = 12.0 // per tick
	stars         = 12   // always so many
	toWin         = 20   // stars
	silence       = 200  // ticks after which a player who says nothing is taken off the board
)

// World is the state of the game. Only the master changes it: players say where
// they want to go, not where they are. One goroutine at a time.
type World struct {
	tick    uint64
	round   int
	players map[string]*player // by name
	stars   []point
	rand    *rand.Rand
}

type point struct{ X, Y float64 }

type player struct {
	at    point
	to    point // the direction it wants to go, at most of length 1
	score int
	heard uint64 // the tick in which it last said something
}

// State is the world as players see it, once per tick.
type State struct {
	Tick    uint64        `json:"tick"`
	Round   int           `json:"round"`
	Players []PlayerState `json:"players"`
	Stars   [][2]int      `json:"stars"`
}

// PlayerState is one player in a State.
type PlayerState struct {
	Name  string `json:"name"`
	X     int    `json:"x"`
	Y     int    `json:"y"`
	Score int    `json:"score"`
}

// NewWorld returns a world with nobody in it.
func NewWorld(source rand.Source) *World {
	w := &World{round: 1, players: make(map[string]*player), rand: rand.New(source)}
	for range stars {
		w.stars = append(w.stars, w.somewhere(starRadius))
	}
	return w
}

// Resume returns a world that goes on from a state that another master has
// told last. Where its players were going they say again soon.
func Resume(s State, source rand.Source) *World {
	w := NewWorld(source)
	w.tick, w.round = s.Tick, max(s.Round, 1)
	for _, p := range s.Players {
		at := point{float64(p.X), float64(p.Y)}
		w.players[p.Name] = &player{at: at, score: p.Score, heard: w.tick}
	}
	for i, at := range s.Stars[:min(len(s.Stars), stars)] {
		w.stars[i] = point{float64(at[0]), float64(at[1])}
	}
	return w
}

// Steer notes where a player wants to go. One that is not on the board is put
// there. What is no direction is none.
func (w *World) Steer(name string, x, y float64) {
	p := w.players[name]
	if p == nil {
		p = &player{at: w.somewhere(playerRadius)}
		w.players[name] = p
	}
	p.heard = w.tick
	length := math.Hypot(x, y)
	if math.IsNaN(length) || math.IsInf(length, 0) {
		x, y, length = 0, 0, 0
	}
	length = max(length, 1) // nobody is faster than others
	p.to = point{x / length, y / length}
}

// Leave takes a player off the board.
func (w *World) Leave(name string) { delete(w.players, name) }

// Step is one tick. It returns who has won the round, or "".
func (w *World) Step() (winner string) {
	w.tick++
	for _, name := range w.names() { // in one order, so that who takes a star is not left to chance
		p := w.players[name]
		if w.tick-p.heard > silence {
			delete(w.players, name)
			continue
		}
		p.at.X = min(max(p.at.X+p.to.X*speed, playerRadius), width-playerRadius)
		p.at.Y = min(max(p.at.Y+p.to.Y*speed, playerRadius), height-playerRadius)
		for i, star := range w.stars {
			if math.Hypot(star.X-p.at.X, star.Y-p.at.Y) <= playerRadius+starRadius {
				w.stars[i] = w.somewhere(starRadius)
				p.score++
			}
		}
		if p.score >= toWin && winner == "" {
			winner = name
		}
	}
	if winner != "" {
		w.round++
		for _, p := range w.players {
			p.score = 0
		}
	}
	return winner
}

// State returns what players are told.
func (w *World) State() State {
	s := State{Tick: w.tick, Round: w.round, Players: make([]PlayerState, 0, len(w.players))}
	for _, name := range w.names() {
		p := w.players[name]
		s.Players = append(s.Players, PlayerState{name, int(p.at.X), int(p.at.Y), p.score})
	}
	for _, at := range w.stars {
		s.Stars = append(s.Stars, [2]int{int(at.X), int(at.Y)})
	}
	return s
}

func (w *World) names() []string {
	names := make([]string, 0, len(w.players))
	for name := range w.players {
		names = append(names, name)
	}
	slices.SortFunc(names, cmp.Compare)
	return names
}

func (w *World) somewhere(margin float64) point {
	return point{margin + w.rand.Float64()*(width-2*margin), margin + w.rand.Float64()*(height-2*margin)}
}
