package node

import "sync"

// flusher writes to many connections what a round of input has brought them. A
// loop that handles input holds it and writes in the end, so that what comes for
// one connection leaves together, and nobody is woken up to write it. While nobody
// holds it, a goroutine writes. What is for other servers leaves together as well,
// but each link has a writer of its own: it may have to wait.
type flusher struct {
	mu         sync.Mutex
	dirty      []*conn // guarded by mu
	spare      []*conn // guarded by mu; the slice last written
	links      []*link // guarded by mu; whose writers are to be woken up
	spareLinks []*link // guarded by mu; the slice last used
	held       int     // guarded by mu
	running    bool    // guarded by mu; a goroutine writes
}

// add has a connection flushed.
func (f *flusher) add(c *conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dirty = append(f.dirty, c)
	if f.held == 0 && !f.running {
		f.running = true
		go f.run()
	}
}

// addLink has the writer of a link woken up.
func (f *flusher) addLink(l *link) {
	f.mu.Lock()
	held := f.held > 0
	if held {
		f.links = append(f.links, l)
	}
	f.mu.Unlock()
	if !held {
		l.wake()
	}
}

// hold has what comes now wait for release.
func (f *flusher) hold() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.held++
}

// release writes what waits. What comes meanwhile is not for it to write: either
// another holds it, or a goroutine writes.
func (f *flusher) release() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.held--
	f.flush()
}

func (f *flusher) run() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.dirty) > 0 {
		f.flush()
	}
	f.running = false
}

// flush writes what waits; under mu, which it gives up meanwhile.
func (f *flusher) flush() {
	batch, links := f.dirty, f.links
	f.dirty, f.spare = f.spare[:0], nil
	f.links, f.spareLinks = f.spareLinks[:0], nil
	f.mu.Unlock()
	for _, l := range links { // first: they write at the same time as we
		l.wake()
	}
	for _, c := range batch {
		c.flush()
	}
	clear(batch)
	clear(links)
	f.mu.Lock()
	f.spare, f.spareLinks = batch, links
}

// Hold has what is to be written to clients and to other servers wait until Release, for a moment, so
// that it is written together. Each Hold needs its Release.
func (n *Node) Hold() { n.flusher.hold() }

// Release writes what waits.
func (n *Node) Release() { n.flusher.release() }
