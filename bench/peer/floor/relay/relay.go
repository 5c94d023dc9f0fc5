//go:build linux

package main

import (
	"bytes"
	"errors"
	"slices"
)

// What a client says; the first byte tells which it is:
//
//	H name topic topic…   here is a user, who follows topics
//	U name body           to a user
//	T topic body          to all who follow a topic
//	D tag name body       to a user, durable
const (
	hello   = 'H'
	toUser  = 'U'
	toTopic = 'T'
	durable = 'D'
)

// What a client hears begins with one of these.
const (
	joined   = 'K'
	accepted = 'A' // tag
	delivery = 'M' // body
)

var errMessage = errors.New("relay: a message that nobody understands")

// message is what a client says; it points into what was read.
type message struct {
	kind byte
	tag  []byte // of toUser, durable
	to   []byte // of hello: the user
	body []byte // of hello: the topics
}

var space = []byte(" ")

func parse(in []byte) (m message, err error) {
	if len(in) == 0 {
		return m, errMessage
	}
	m.kind = in[0]
	rest, ok := in[1:], true
	switch m.kind {
	case hello, toUser, toTopic:
	case durable:
		m.tag, rest, ok = bytes.Cut(rest, space)
	default:
		ok = false
	}
	m.to, m.body, _ = bytes.Cut(rest, space)
	if !ok || len(m.to) == 0 {
		return m, errMessage
	}
	return m, nil
}

// relay knows who is where; C is a connection.
type relay[C comparable] struct {
	users  map[string]C
	topics map[string][]C
}

func newRelay[C comparable]() relay[C] {
	return relay[C]{users: make(map[string]C), topics: make(map[string][]C)}
}

func (r *relay[C]) join(c C, user string, topics []string) {
	r.users[user] = c
	for _, topic := range topics {
		r.topics[topic] = append(r.topics[topic], c)
	}
}

// leave forgets a connection that has joined.
func (r *relay[C]) leave(c C, user string, topics []string) {
	if r.users[user] == c {
		delete(r.users, user)
	}
	for _, topic := range topics {
		r.topics[topic] = slices.DeleteFunc(r.topics[topic], func(other C) bool { return other == c })
	}
}

// recipients appends those who are to get a message.
func (r *relay[C]) recipients(list []C, m message) []C {
	if m.kind == toTopic {
		return append(list, r.topics[string(m.to)]...)
	}
	if c, ok := r.users[string(m.to)]; ok {
		list = append(list, c)
	}
	return list
}
