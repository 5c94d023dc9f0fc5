package main

import (
	"bytes"
	"container/list"
)

const (
	historySessions = 10_000
	historyBytes    = 64 << 20
)

// history holds the reply to the latest retryable write of each session, so that a
// repetition is answered and not applied again. Like MongoDB it needs no more than
// the latest: a session runs one command at a time. The sessions used least
// recently are forgotten first. It is not safe for concurrent use.
type history struct {
	maxSessions int
	maxBytes    int
	bytes       int
	bySession   map[string]*list.Element
	recent      *list.List // of *answered, the latest first
}

type answered struct {
	session string
	txn     int64
	reply   message
}

func newHistory(maxSessions, maxBytes int) *history {
	return &history{
		maxSessions: maxSessions,
		maxBytes:    maxBytes,
		bySession:   map[string]*list.Element{},
		recent:      list.New(),
	}
}

// recall returns the latest write of a session that was answered, or nil.
func (h *history) recall(session string) *answered {
	if e, ok := h.bySession[session]; ok {
		return e.Value.(*answered)
	}
	return nil
}

// record keeps a reply in place of the session's previous one.
func (h *history) record(session string, txn int64, reply message) {
	h.forget(session)
	a := &answered{session: session, txn: txn, reply: bytes.Clone(reply)}
	h.bySession[session] = h.recent.PushFront(a)
	h.bytes += len(reply)
	for h.recent.Len() > h.maxSessions || h.bytes > h.maxBytes {
		h.forget(h.recent.Back().Value.(*answered).session)
	}
}

func (h *history) forget(session string) {
	e, ok := h.bySession[session]
	if !ok {
		return
	}
	h.recent.Remove(e)
	delete(h.bySession, session)
	h.bytes -= len(e.Value.(*answered).reply)
}
