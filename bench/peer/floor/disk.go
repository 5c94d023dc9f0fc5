package floor

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/allsparkrt/allspark/bench/peer"
)

// Disk appends durable messages to a bare file: all that came together with
// one write and one fdatasync. It has no network and runs in the bench itself.
type Disk struct {
	file *os.File // written by Start
	done sync.WaitGroup

	mu      sync.Mutex
	users   map[string]*diskClient
	queue   []record
	closed  bool
	changed chan struct{} // room for one: there is something in the queue
}

// record is one message that waits to be written.
type record struct {
	from *diskClient
	to   string
	tag  uint64
	body []byte
}

// maxQueue is how many messages wait at most.
const maxQueue = 1 << 20

var errQueue = errors.New("floor: the disk does not keep up")

// NewDisk returns a target that is not started.
func NewDisk() *Disk { return new(Disk) }

// About says what it is.
func (d *Disk) About() peer.About {
	return peer.About{
		Name: "disk", Title: "Bare file", Version: runtime.Version(), Floor: true,
		Settings: "a bare file in the bench's own process, no network; one fdatasync for all that waits",
		Can:      peer.Can{Durable: true, Servers: 1},
	}
}

// Start opens the file.
func (d *Disk) Start(_ context.Context, env peer.Env) error {
	file, err := os.Create(filepath.Join(env.Dir, "floor.data"))
	if err != nil {
		return err
	}
	d.file, d.users, d.queue, d.closed = file, make(map[string]*diskClient), nil, false
	d.changed = make(chan struct{}, 1)
	d.done.Go(d.run)
	return nil
}

// Stop closes the file.
func (d *Disk) Stop() error {
	if d.file == nil {
		return nil
	}
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.wake()
	d.done.Wait()
	err := d.file.Close()
	d.file = nil
	return err
}

// PIDs is empty: what the bench itself uses is not known apart.
func (d *Disk) PIDs() []int { return nil }

// Group is something that a file does not know.
func (d *Disk) Group(context.Context, string, []string) error { return peer.ErrCannot }

// Connect makes a user known.
func (d *Disk) Connect(_ context.Context, u peer.User, h peer.Handler) (peer.Client, error) {
	c := &diskClient{disk: d, name: u.Name, handler: h}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.users[u.Name] = c
	return c, nil
}

func (d *Disk) wake() {
	select {
	case d.changed <- struct{}{}:
	default:
	}
}

// run writes what waits, and then tells. It is the one goroutine that calls
// handlers.
func (d *Disk) run() {
	var batch []record
	var out []byte
	for range d.changed {
		d.mu.Lock()
		batch, d.queue = d.queue, batch[:0]
		closed := d.closed
		d.mu.Unlock()
		if closed {
			return
		}
		out = out[:0]
		for _, r := range batch {
			out = binary.BigEndian.AppendUint32(out, uint32(len(r.body)))
			out = append(out, r.body...)
		}
		_, err := d.file.Write(out)
		if err == nil {
			err = dataSync(d.file)
		}
		for _, r := range batch {
			d.tell(r, err)
		}
		clear(batch)
	}
}

func (d *Disk) tell(r record, err error) {
	if err != nil {
		if r.from.handler.Refused != nil {
			r.from.handler.Refused(r.tag, err.Error())
		}
		return
	}
	if r.from.handler.Accepted != nil {
		r.from.handler.Accepted(r.tag)
	}
	d.mu.Lock()
	to := d.users[r.to]
	d.mu.Unlock()
	if to != nil && to.handler.Message != nil {
		to.handler.Message(r.body)
	}
}

// diskClient is one user.
type diskClient struct {
	disk    *Disk
	name    string
	handler peer.Handler
}

// Send has a message written.
func (c *diskClient) Send(to string, m peer.Message) error {
	if !m.Durable {
		return peer.ErrCannot
	}
	d := c.disk
	d.mu.Lock()
	if len(d.queue) >= maxQueue {
		d.mu.Unlock()
		return errQueue
	}
	d.queue = append(d.queue, record{c, to, m.Tag, append([]byte(nil), m.Body...)})
	d.mu.Unlock()
	d.wake()
	return nil
}

// Publish is something that a file does not know.
func (c *diskClient) Publish(string, peer.Message) error { return peer.ErrCannot }

// Watch is something that a file does not know.
func (c *diskClient) Watch([]string) error { return peer.ErrCannot }

// Close forgets the user.
func (c *diskClient) Close() error {
	c.disk.mu.Lock()
	defer c.disk.mu.Unlock()
	if c.disk.users[c.name] == c {
		delete(c.disk.users, c.name)
	}
	return nil
}
