package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/allsparkrt/allspark/envelope"
)

// What one peer link may hold in memory and on the wire.
const (
	linkQueueBytes = 16 << 20
	linkFrameBytes = 64 << 10 // records gathered into one frame; a larger record has its own
	linkReadBytes  = 64 << 20
	maxSpare       = 1 << 20 // memory for records that is used again
	maxSilent      = 6       // beats without a frame from the peer
	maxRefusing    = 1 << 16 // streams that were refused and have not come again
)

// link is the one FIFO connection to another server.
type link struct {
	peer    envelope.ServerID
	boot    string
	ws      *websocket.Conn
	flusher *flusher // has the writer woken up

	heard atomic.Uint64 // frames received

	mu        sync.Mutex
	queue     []byte              // guarded by mu; encoded records
	ends      []int               // guarded by mu; where each record in queue ends
	waking    bool                // guarded by mu; the writer is awake or about to be, and will see what is queued
	lossy     bool                // guarded by mu; records were dropped and the peer does not know
	beats     bool                // guarded by mu; a sign of life is in queue, that is no answer to one
	closed    bool                // guarded by mu
	refusing  map[stream]struct{} // guarded by mu; to which the peer must not append before it has heard of a refusal
	passage   passage             // guarded by mu
	told      time.Duration       // guarded by mu; the time by the peer's clock, as heard last
	toldAt    time.Time           // guarded by mu; when that was
	roundTrip time.Duration       // guarded by mu; of the last word and its answer
	echo      time.Duration       // guarded by mu; the time by our clock that the peer has given back last; 0: none
	wakeup    chan struct{}       // a token for the writer
}

func newLink(peer introduction, ws *websocket.Conn, f *flusher) *link {
	ws.SetReadLimit(linkReadBytes)
	l := &link{peer: peer.ID, boot: peer.Boot, ws: ws, flusher: f, wakeup: make(chan struct{}, 1)}
	// What was on its way to the peer by an older link is lost; it may have
	// looked for that before we knew.
	l.lossy, l.waking = true, true
	l.wake()
	return l
}

// send queues a record, of which it keeps nothing. It reports false, and the
// peer is told to sweep, when the queue is full. It never blocks.
func (l *link) send(kind byte, body []byte) bool {
	l.mu.Lock()
	full := l.closed || len(l.queue)+len(body)+maxRecordHead > linkQueueBytes
	if full {
		l.lossy = true
	} else {
		l.queue = appendRecord(l.queue, kind, body)
		l.ends = append(l.ends, len(l.queue))
	}
	asleep := !l.waking
	l.waking = true
	l.mu.Unlock()
	if asleep {
		l.flusher.addLink(l)
	}
	return !full
}

// wake has the writer look at the queue.
func (l *link) wake() {
	poke(l.wakeup)
}

// close makes send refuse everything from now on.
func (l *link) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
}

// mayAppend reports whether the peer may append to a log; first says that it
// has heard of all refusals.
func (l *link) mayAppend(s stream, first bool, number uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if first {
		delete(l.refusing, s)
	}
	if _, refusing := l.refusing[s]; refusing {
		return false
	}
	l.passage.begin(number)
	return true
}

// refuseAppends refuses the peer's appends to a log until it has heard of it.
func (l *link) refuseAppends(s stream, number uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.passage.wait(&l.mu, number)
	if l.refusing == nil {
		l.refusing = make(map[stream]struct{})
	}
	l.refusing[s] = struct{}{}
	if len(l.refusing) > maxRefusing {
		go l.ws.CloseNow() // a new link begins with nothing refused and nothing under way
	}
}

// run serves the link until it breaks or ctx ends. sign returns the body of a
// sign of life.
func (l *link) run(ctx context.Context, beat time.Duration, sign func() []byte, stats *Stats, receive func([]byte) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	wg.Go(func() { cancel(l.writeLoop(ctx, stats)) })
	wg.Go(func() { cancel(l.beatLoop(ctx, beat, sign)) })
	wg.Go(func() { // whoever fails first ends the others
		<-ctx.Done()
		_ = l.ws.CloseNow()
	})
	var in bytes.Buffer
	for {
		err := l.read(&in)
		if err == nil {
			l.heard.Add(1)
			// What records hold may be kept, and only now it is known how long they are.
			frame := bytes.Clone(in.Bytes())
			l.flusher.hold()
			err = receive(frame)
			l.flusher.release()
		}
		if err != nil {
			cancel(err)
			wg.Wait()
			return context.Cause(ctx)
		}
	}
}

// read reads a frame into memory that is used again.
func (l *link) read(in *bytes.Buffer) error {
	if in.Reset(); in.Cap() > maxSpare {
		*in = bytes.Buffer{}
	}
	kind, r, err := l.ws.Reader(context.Background())
	if err == nil && kind != websocket.MessageBinary {
		err = fmt.Errorf("a peer sent a frame of type %v", kind)
	}
	if err == nil {
		_, err = in.ReadFrom(r)
	}
	return err
}

// writeLoop writes what waits. That the link is over it hears from the
// WebSocket: contexts would cost more than writing.
func (l *link) writeLoop(ctx context.Context, stats *Stats) error {
	var spare []byte
	var spareEnds []int
	for {
		select {
		case <-l.wakeup:
		case <-ctx.Done():
			return ctx.Err()
		}
		l.mu.Lock()
		queue, ends, lossy := l.queue, l.ends, l.lossy
		l.queue, l.ends, l.lossy, l.waking, l.beats = spare[:0], spareEnds[:0], false, false, false
		l.mu.Unlock()

		start := 0
		for i, end := range ends {
			last := i == len(ends)-1
			if !last && ends[i+1]-start <= linkFrameBytes {
				continue
			}
			if err := l.ws.Write(context.Background(), websocket.MessageBinary, queue[start:end]); err != nil {
				return err
			}
			stats.PeerFrames.Add(1)
			start = end
		}
		stats.PeerRecords.Add(uint64(len(ends)))
		if lossy { // behind what was kept, so that the sweep finds all of it
			if err := l.ws.Write(context.Background(), websocket.MessageBinary, appendRecord(nil, recordLossy, nil)); err != nil {
				return err
			}
		}
		if spare, spareEnds = queue, ends; cap(spare) > maxSpare {
			spare, spareEnds = nil, nil
		}
	}
}

// beatLoop gives the peer signs of life and ends the link when there are none
// from it. They are records like others: the answer to a WebSocket ping is
// written by the reader, and two servers whose links are full both ways would
// wait for each other.
func (l *link) beatLoop(ctx context.Context, every time.Duration, sign func() []byte) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	heard, silent := l.heard.Load(), 0
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		if now := l.heard.Load(); now != heard {
			heard, silent = now, 0
		} else if silent++; silent == maxSilent {
			return errors.New("the peer is silent")
		}
		l.beat(sign(), false)
	}
}
