package main

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
)

func newWorld(seed uint64) *World { return NewWorld(rand.NewPCG(seed, seed)) }

func TestSteer(t *testing.T) {
	tests := []struct {
		name string
		x, y float64
		want point // how far it goes in one tick
	}{
		{"right", 1, 0, point{speed, 0}},
		{"half as fast", 0, 0.5, point{0, speed / 2}},
		{"nobody is faster than others", 300, 400, point{speed * 0.6, speed * 0.8}},
		{"nowhere", 0, 0, point{}},
		{"not a number", math.NaN(), 1, point{}},
		{"without end", math.Inf(1), 0, point{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(1)
			w.Steer("a", tt.x, tt.y)
			w.players["a"].at = point{500, 300}
			w.Step()
			at := w.players["a"].at
			if got := (point{at.X - 500, at.Y - 300}); math.Hypot(got.X-tt.want.X, got.Y-tt.want.Y) > 1e-9 {
				t.Errorf("moved by %v, want %v", got, tt.want)
			}
		})
	}
}

func TestNobodyLeavesTheArena(t *testing.T) {
	w := newWorld(2)
	for i, to := range []point{{1, 1}, {-1, -1}, {1, -1}, {-1, 0}} {
		w.Steer(string(rune('a'+i)), to.X, to.Y)
	}
	for range silence {
		w.Step()
		for name, p := range w.players {
			if p.at.X < playerRadius || p.at.X > width-playerRadius || p.at.Y < playerRadius || p.at.Y > height-playerRadius {
				t.Fatalf("%s is at %v", name, p.at)
			}
		}
	}
}

func TestStarsAndRounds(t *testing.T) {
	w := newWorld(3)
	w.Steer("a", 0, 0)
	w.Steer("b", 0, 0)
	w.players["b"].at = point{playerRadius, playerRadius}
	for score := 1; score <= toWin; score++ {
		for i := range w.stars { // one is where a is, the others far from both
			w.stars[i] = point{width - starRadius, height - starRadius}
		}
		w.players["a"].at = point{500, 300}
		w.stars[0] = point{500 + playerRadius, 300}
		winner := w.Step()
		switch {
		case len(w.stars) != stars:
			t.Fatalf("%d stars", len(w.stars))
		case score < toWin && (winner != "" || w.players["a"].score != score):
			t.Fatalf("after %d stars the score is %d, the winner %q", score, w.players["a"].score, winner)
		case score == toWin && (winner != "a" || w.round != 2 || w.players["a"].score != 0):
			t.Fatalf("the winner of round %d is %q with %d left", w.round-1, winner, w.players["a"].score)
		}
	}
}

func TestSilentPlayersGo(t *testing.T) {
	w := newWorld(4)
	w.Steer("silent", 1, 0)
	for range silence {
		w.Steer("playing", 0, 1)
		w.Step()
	}
	if got := len(w.State().Players); got != 2 {
		t.Fatalf("%d players", got)
	}
	w.Steer("playing", 0, 1)
	w.Step()
	if got := w.State().Players; len(got) != 1 || got[0].Name != "playing" {
		t.Fatalf("players are %v", got)
	}
	w.Leave("playing")
	if got := w.State().Players; len(got) != 0 {
		t.Fatalf("players are %v", got)
	}
}

// TestResume: what another master takes over is what players saw last.
func TestResume(t *testing.T) {
	w := newWorld(5)
	for i := range 100 {
		w.Steer("a", math.Sin(float64(i)), 1)
		w.Steer("b", -1, math.Cos(float64(i)))
		w.Step()
	}
	text, err := json.Marshal(w.State())
	if err != nil {
		t.Fatal(err)
	}
	var heard State
	if err := json.Unmarshal(text, &heard); err != nil {
		t.Fatal(err)
	}
	resumed := Resume(heard, rand.NewPCG(9, 9))
	if got := resumed.State(); !reflect.DeepEqual(got, w.State()) {
		t.Errorf("resumed as\n%+v, want\n%+v", got, w.State())
	}
	resumed.Step()
	if got := resumed.State().Tick; got != heard.Tick+1 {
		t.Errorf("goes on at tick %d after %d", got, heard.Tick)
	}
}
