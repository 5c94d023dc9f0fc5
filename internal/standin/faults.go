package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Kind is what a fault does to a command. README.md has the table.
type Kind string

// The kinds of faults.
const (
	ReplyLost    Kind = "reply_lost"    // applied, then the connection is cut
	Unreachable  Kind = "unreachable"   // applied, then HostUnreachable instead of the reply
	NotPrimary   Kind = "not_primary"   // NotWritablePrimary, not applied
	WriteConcern Kind = "write_concern" // applied, but the reply carries a writeConcernError
	Stall        Kind = "stall"         // delayed, then applied
	Cut          Kind = "cut"           // the connection is cut, not applied
	DiskFull     Kind = "disk_full"     // OutOfDiskSpace, not applied; writes only
)

// Fault says which commands are hit, how, and how often.
type Fault struct {
	Kind        Kind     `json:"kind"`
	Commands    []string `json:"commands,omitempty"`    // empty: all but hello, ping and the like
	Collections []string `json:"collections,omitempty"` // empty: all
	Probability float64  `json:"probability"`
	Count       int      `json:"count"`              // after so many the fault is spent; 0: never
	DelayMS     int      `json:"delay_ms,omitempty"` // of a stall
	Seed        uint64   `json:"seed"`               // 0: one is chosen
}

// FaultStatus is a fault with what has become of it.
type FaultStatus struct {
	ID int `json:"id"`
	Fault
	Seen  int `json:"seen"`  // commands that it could have hit
	Fired int `json:"fired"` // commands that it did hit
}

var errFault = errors.New("unusable fault")

func (f Fault) validate() error {
	switch f.Kind {
	case ReplyLost, Unreachable, NotPrimary, WriteConcern, Cut, DiskFull:
		if f.DelayMS != 0 {
			return fmt.Errorf("%w: delay_ms is for a stall only", errFault)
		}
	case Stall:
		if f.DelayMS <= 0 {
			return fmt.Errorf("%w: a stall needs a delay_ms above 0", errFault)
		}
	default:
		return fmt.Errorf("%w: unknown kind %q", errFault, f.Kind)
	}
	if !(f.Probability > 0 && f.Probability <= 1) {
		return fmt.Errorf("%w: probability must be above 0 and at most 1", errFault)
	}
	if f.Count < 0 {
		return fmt.Errorf("%w: count must not be negative", errFault)
	}
	return nil
}

func (f Fault) matches(c command) bool {
	switch {
	case (f.Kind == WriteConcern || f.Kind == DiskFull) && !c.traits.writes:
		return false
	case len(f.Commands) == 0 && c.traits.handshake:
		return false
	case len(f.Commands) > 0 && !slices.Contains(f.Commands, c.name):
		return false
	}
	return len(f.Collections) == 0 || slices.Contains(f.Collections, c.collection)
}

// Faults are the faults in force.
type Faults struct {
	mu     sync.Mutex
	lastID int
	active []*activeFault // in the order they were added
}

type activeFault struct {
	FaultStatus
	random *rand.Rand
}

func newFaults() *Faults { return &Faults{} }

// Add puts a fault in force.
func (fs *Faults) Add(f Fault) (FaultStatus, error) {
	if err := f.validate(); err != nil {
		return FaultStatus{}, err
	}
	for f.Seed == 0 {
		// Below 2^53, so that every JSON reader keeps it exact.
		f.Seed = rand.Uint64N(1 << 53)
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.lastID++
	a := &activeFault{FaultStatus{ID: fs.lastID, Fault: f}, rand.New(rand.NewPCG(f.Seed, 0))}
	fs.active = append(fs.active, a)
	return a.FaultStatus, nil
}

// Clear ends all faults and returns what had become of them.
func (fs *Faults) Clear() []FaultStatus {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	cleared := fs.list()
	fs.active = nil
	return cleared
}

// List returns the faults in force and those spent.
func (fs *Faults) List() []FaultStatus {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.list()
}

func (fs *Faults) list() []FaultStatus {
	list := make([]FaultStatus, 0, len(fs.active))
	for _, a := range fs.active {
		list = append(list, a.FaultStatus)
	}
	return list
}

// strike is what happens to one command.
type strike struct {
	delay time.Duration
	kind  Kind // empty, or any but Stall
}

// draw decides one command's fate: the stalls add up, and the first other fault
// to fire is the one that counts.
func (fs *Faults) draw(c command) strike {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	var s strike
	for _, a := range fs.active {
		spent := a.Count > 0 && a.Fired >= a.Count
		shadowed := a.Kind != Stall && s.kind != ""
		if spent || shadowed || !a.matches(c) {
			continue
		}
		a.Seen++
		if a.random.Float64() >= a.Probability {
			continue
		}
		a.Fired++
		if a.Kind == Stall {
			s.delay += time.Duration(a.DelayMS) * time.Millisecond
		} else {
			s.kind = a.Kind
		}
	}
	return s
}
