package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
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
			err := p.serveConn(ctx, client)
			// All else is a client that left, or a fault that was asked for.
			broken := errors.Is(err, errBackend) || errors.Is(err, errLength)
			if broken && ctx.Err() == nil {
				p.log.ErrorContext(ctx, "connection ended", "error", err)
			}
		})
	}
}

// conn is one client's connection and its counterpart to FerretDB, where cursors live.
type conn struct {
	*Proxy
	client        net.Conn
	backend       net.Conn
	backendReader *bufio.Reader
}

func (p *Proxy) serveConn(ctx context.Context, client net.Conn) error {
	defer context.AfterFunc(ctx, func() { _ = client.Close() })()
	defer func() { _ = client.Close() }()
	var dialer net.Dialer
	backend, err := dialer.DialContext(ctx, "tcp", p.backend)
	if err != nil {
		return fmt.Errorf("%w: %w", errBackend, err)
	}
	defer context.AfterFunc(ctx, func() { _ = backend.Close() })()
	defer func() { _ = backend.Close() }()

	c := &conn{Proxy: p, client: client, backend: backend, backendReader: bufio.NewReader(backend)}
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

// answer returns the reply to a request, or nil if the client expects none. An error ends the connection.
func (c *conn) answer(ctx context.Context, request message) (message, error) {
	switch request.opcode() {
	case opQuery: // Drivers greet with it before they know what the server speaks.
		reply, err := c.relay(request)
		if err != nil {
			return nil, err
		}
		return reply.amend(c.member.pose)
	case opMsg:
	default:
		return newReply(request.requestID(), protocolError(fmt.Sprintf("opcode %d is not supported", request.opcode()))), nil
	}

	body, err := request.body()
	if err != nil {
		return newReply(request.requestID(), protocolError(err.Error())), nil
	}
	cmd, err := parseCommand(body)
	if err != nil {
		return newReply(request.requestID(), protocolError(err.Error())), nil
	}
	// FerretDB answers even where no reply is wanted. Asked for one, it stays in step.
	silent := request.flags()&flagMoreToCome != 0
	request.setFlags(request.flags() &^ flagMoreToCome)
	reply, err := c.execute(ctx, cmd, request)
	if err != nil || silent {
		return nil, err
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
		return newReply(request.requestID(), notPrimaryError(cmd)), nil
	}

	reply, err := c.apply(cmd, request)
	if err != nil {
		return nil, err
	}

	switch strike.kind {
	case ReplyLost:
		return nil, errCut
	case Unreachable:
		return newReply(request.requestID(), unreachableError(cmd)), nil
	case WriteConcern:
		return reply.amend(addWriteConcernError)
	}
	return reply, nil
}

// apply has the command carried out, at most once if it is a retryable write.
func (c *conn) apply(cmd command, request message) (message, error) {
	switch {
	case cmd.inTxn:
		return newReply(request.requestID(), errorBody(20, "IllegalOperation", "transactions are not supported here")), nil
	case cmd.name == "endSessions":
		// What their writes were answered is let go when room is needed.
		return newReply(request.requestID(), mustMarshal(bson.D{{Key: "ok", Value: 1.0}})), nil
	case cmd.traits.hello:
		reply, err := c.relay(request)
		if err != nil {
			return nil, err
		}
		return reply.amend(c.member.pose)
	case !cmd.traits.writes:
		return c.relay(request)
	}

	c.writing.Lock()
	defer c.writing.Unlock()
	if !cmd.retryable {
		return c.relay(request)
	}
	if last := c.history.recall(cmd.session); last != nil && cmd.txn <= last.txn {
		if cmd.txn < last.txn {
			return newReply(request.requestID(), errorBody(225, "TransactionTooOld", "a later write of this session was already answered")), nil
		}
		reply := append(message(nil), last.reply...)
		reply.setResponseTo(request.requestID())
		return reply, nil
	}
	reply, err := c.relay(request)
	if err == nil {
		c.history.record(cmd.session, cmd.txn, reply)
	}
	return reply, err
}

// relay passes a request on to FerretDB and waits for its reply.
func (c *conn) relay(request message) (message, error) {
	if _, err := c.backend.Write(request); err != nil {
		return nil, fmt.Errorf("%w: %w", errBackend, err)
	}
	reply, err := readMessage(c.backendReader)
	if err != nil {
		return nil, fmt.Errorf("%w: no reply: %w", errBackend, err)
	}
	return reply, nil
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
