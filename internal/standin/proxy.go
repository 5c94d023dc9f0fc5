package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

var (
	errCut     = errors.New("connection cut by a fault")
	errBackend = errors.New("FerretDB failed")
)

// Proxy stands between MongoDB clients and FerretDB.
type Proxy struct {
	// Static.
	backend string
	member  member
	faults  *Faults
	log     *slog.Logger

	// writing is held while FerretDB carries out a write: its updates read, change and
	// overwrite, so two at a time would lose one.
	writing sync.Mutex
	history *history // guarded by writing
}

// Serve takes connections until ctx ends, and returns when the last has ended.
func (p *Proxy) Serve(ctx context.Context, clients net.Listener) {
	var connections sync.WaitGroup
	defer connections.Wait()
	for {
		client, err := clients.Accept()
		if err != nil {
			if ctx.Err() == nil {
				p.log.ErrorContext(ctx, "no longer accepting connections", "error", err)
			}
			return
		}
		connections.Go(func() {
			// Clients leave and faults cut; only a client that breaks the protocol is news.
			if err := p.serveConn(ctx, client); errors.Is(err, errLength) {
				p.log.ErrorContext(ctx, "connection ended", "error", err)
			}
		})
	}
}

// conn is one client's connection, and its counterpart to FerretDB, where its cursors live.
type conn struct {
	*Proxy
	client net.Conn

	// backend is nil until the first request, and again after FerretDB has failed.
	backend       net.Conn
	backendReader *bufio.Reader
}

func (p *Proxy) serveConn(ctx context.Context, client net.Conn) error {
	defer context.AfterFunc(ctx, func() { _ = client.Close() })()
	c := &conn{Proxy: p, client: client}
	defer c.close()
	requests := bufio.NewReader(client)
	for {
		request, err := readMessage(requests)
		if err != nil {
			return err
		}
		reply, err := c.answer(ctx, request)
		if err != nil {
			return err
		}
		if reply == nil {
			continue
		}
		if _, err := client.Write(reply); err != nil {
			return err
		}
	}
}

func (c *conn) close() {
	_ = c.client.Close()
	c.closeBackend()
}

func (c *conn) closeBackend() {
	if c.backend != nil {
		_ = c.backend.Close()
		c.backend = nil
	}
}

// answer returns the reply to a request, or nil if the client expects none. An error ends the connection.
func (c *conn) answer(ctx context.Context, request message) (message, error) {
	switch request.opcode() {
	case opQuery: // Drivers greet with it before they know what the server speaks.
		reply, err := c.relay(ctx, request)
		if err != nil {
			return nil, err
		}
		return reply.amend(c.member.pose)
	case opMsg:
	default:
		return newMessage(request.requestID(), protocolError(fmt.Sprintf("opcode %d is not supported", request.opcode()))), nil
	}

	body, err := request.body()
	if err != nil {
		return newMessage(request.requestID(), protocolError(err.Error())), nil
	}
	cmd, err := parseCommand(body)
	if err != nil {
		return newMessage(request.requestID(), protocolError(err.Error())), nil
	}
	// FerretDB answers even where no reply is wanted. Asked for one, it stays in step.
	silent := request.flags()&flagMoreToCome != 0
	request.setFlags(request.flags() &^ flagMoreToCome)
	reply, err := c.execute(ctx, cmd, request)
	switch {
	case errors.Is(err, errBackend):
		// FerretDB panics over a few types it does not know. A cut connection would
		// have the driver try again and again.
		c.log.ErrorContext(ctx, "no reply", "command", cmd.name, "error", err)
		reply = newMessage(request.requestID(), errorBody(1, "InternalError", err.Error()))
	case err != nil:
		return nil, err
	}
	if silent {
		return nil, nil
	}
	return reply, nil
}

// execute carries out one command, with the faults that hit it.
func (c *conn) execute(ctx context.Context, cmd command, request message) (message, error) {
	strike := c.faults.draw(cmd)
	if err := pause(ctx, strike.delay); err != nil {
		return nil, err
	}
	switch strike.kind {
	case Cut:
		return nil, errCut
	case NotPrimary:
		return newMessage(request.requestID(), notPrimaryError(cmd)), nil
	case DiskFull:
		return newMessage(request.requestID(), diskFullError()), nil
	}

	reply, err := c.apply(ctx, cmd, request)
	if err != nil {
		return nil, err
	}

	switch strike.kind {
	case ReplyLost:
		return nil, errCut
	case Unreachable:
		return newMessage(request.requestID(), unreachableError(cmd)), nil
	case WriteConcern:
		return reply.amend(addWriteConcernError)
	}
	return reply, nil
}

// apply has the command carried out, at most once if it is a retryable write.
func (c *conn) apply(ctx context.Context, cmd command, request message) (message, error) {
	switch {
	case cmd.inTxn:
		return newMessage(request.requestID(), errorBody(20, "IllegalOperation", "transactions are not supported here")), nil
	case cmd.name == "endSessions":
		// What their writes were answered is let go when room is needed.
		return newMessage(request.requestID(), mustMarshal(bson.D{{Key: "ok", Value: 1.0}})), nil
	case cmd.traits.hello:
		reply, err := c.relay(ctx, request)
		if err != nil {
			return nil, err
		}
		return reply.amend(c.member.pose)
	case cmd.name == "distinct":
		// FerretDB refuses the limit that drivers set if they have a timeout.
		relaxed, err := request.amend(func(distinct bson.D) bson.D {
			return slices.DeleteFunc(distinct, func(e bson.E) bool { return e.Key == "maxTimeMS" })
		})
		if err != nil {
			return newMessage(request.requestID(), protocolError(err.Error())), nil
		}
		return c.relay(ctx, relaxed)
	case !cmd.traits.writes:
		return c.relay(ctx, request)
	}

	c.writing.Lock()
	defer c.writing.Unlock()
	if !cmd.retryable {
		return c.write(ctx, cmd, request)
	}
	if last := c.history.recall(cmd.session); last != nil && cmd.txn <= last.txn {
		if cmd.txn < last.txn {
			return newMessage(request.requestID(), errorBody(225, "TransactionTooOld", "a later write of this session was already answered")), nil
		}
		reply := append(message(nil), last.reply...)
		reply.setResponseTo(request.requestID())
		return reply, nil
	}
	reply, err := c.write(ctx, cmd, request)
	if err == nil {
		c.history.record(cmd.session, cmd.txn, reply)
	}
	return reply, err
}

// write passes on a write, and mends what FerretDB does not do as MongoDB does.
func (c *conn) write(ctx context.Context, cmd command, request message) (message, error) {
	switch cmd.name {
	case "update":
		return c.update(ctx, request)
	case "findAndModify", "findandmodify":
		return c.findAndModify(ctx, request)
	case "createIndexes":
		relaxed, err := request.amend(relaxIndexes)
		if err != nil {
			return newMessage(request.requestID(), protocolError(err.Error())), nil
		}
		request = relaxed
	}
	return c.relay(ctx, request)
}

// relay passes a request on to FerretDB and waits for its reply.
func (c *conn) relay(ctx context.Context, request message) (message, error) {
	reply, err := c.exchange(ctx, request)
	if err == nil {
		return reply, nil
	}
	c.closeBackend()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return nil, fmt.Errorf("%w: %w", errBackend, err)
}

func (c *conn) exchange(ctx context.Context, request message) (message, error) {
	if c.backend == nil {
		var dialer net.Dialer
		backend, err := dialer.DialContext(ctx, "tcp", c.Proxy.backend)
		if err != nil {
			return nil, err
		}
		c.backend, c.backendReader = backend, bufio.NewReader(backend)
	}
	// FerretDB is asked to finish what it has begun; only the end of the stand-in interrupts it.
	backend := c.backend // the interruption may come late, when c has let go of it
	defer context.AfterFunc(ctx, func() { _ = backend.SetDeadline(time.Unix(1, 0)) })()
	if _, err := backend.Write(request); err != nil {
		return nil, err
	}
	return readMessage(c.backendReader)
}

func pause(ctx context.Context, delay time.Duration) error {
	if delay == 0 {
		return nil
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
