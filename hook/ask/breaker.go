package ask

import (
	"time"

	"github.com/allsparkrt/allspark/envelope"
)

const (
	// breakAfter is how many devices must have had no answer, one after the
	// other, before the backend counts as gone: one alone may ask what no backend
	// can answer.
	breakAfter = 3
	// The backend is left alone for firstPause, then for twice as long and so on,
	// up to lastPause.
	firstPause = time.Second
	lastPause  = 15 * time.Second
)

// breaker keeps those that ask from waiting, one after the other, for a backend
// that does not answer. While it is open nothing is asked but, after each pause,
// one question that finds out. The zero one is closed. Its owner's mutex guards it.
type breaker struct {
	failing map[envelope.NodeID]struct{} // who has had no answer since the last one
	until   time.Time                    // open, and nothing is asked before; zero: closed
	pause   time.Duration                // the one that is on
	probing bool                         // the one question is under way
}

// admit reports whether a question may be asked, and whether it is the one that
// finds out.
func (k *breaker) admit(now time.Time) (probe, ok bool) {
	switch {
	case k.until.IsZero():
		return false, true
	case k.probing || now.Before(k.until):
		return false, false
	}
	k.probing = true
	return true, true
}

// succeeded notes an answer, and reports whether that closes the breaker.
func (k *breaker) succeeded() (closed bool) {
	closed = !k.until.IsZero()
	*k = breaker{}
	return closed
}

// failed notes that there was none for a device, and reports whether that opens
// the breaker.
func (k *breaker) failed(device envelope.NodeID, probe bool, now time.Time) (opened bool) {
	switch {
	case probe && k.probing:
		k.probing = false
		k.pause = min(2*k.pause, lastPause)
		k.until = now.Add(k.pause)
		return false
	case !k.until.IsZero(): // it was asked before it opened
		return false
	}
	if k.failing == nil {
		k.failing = make(map[envelope.NodeID]struct{}, breakAfter)
	}
	if k.failing[device] = struct{}{}; len(k.failing) < breakAfter {
		return false
	}
	k.pause, k.until = firstPause, now.Add(firstPause)
	return true
}
