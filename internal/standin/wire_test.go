package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
)

func ping() message {
	return newMessage(7, mustMarshal(bson.D{{Key: "ping", Value: 1}, {Key: "$db", Value: "admin"}}))
}

func TestReadMessage(t *testing.T) {
	m, err := readMessage(bytes.NewReader(ping()))
	if err != nil || !bytes.Equal(m, ping()) {
		t.Errorf("read %x, %v", m, err)
	}
	for _, length := range []uint32{0, headerSize - 1, maxMessageSize + 1, 1 << 31} {
		header := make([]byte, headerSize)
		binary.LittleEndian.PutUint32(header, length)
		if _, err := readMessage(bytes.NewReader(header)); !errors.Is(err, errLength) {
			t.Errorf("length %d: error = %v", length, err)
		}
	}
	if _, err := readMessage(bytes.NewReader(ping()[:20])); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("truncated: error = %v", err)
	}
}

// malformed are messages of the right length with something wrong inside.
func malformed() map[string]message {
	alter := func(at int, value byte) message {
		m := ping()
		m[at] = value
		return m
	}
	const flags, kind, size = headerSize, headerSize + 4, headerSize + 5
	return map[string]message{
		"opcode":       alter(12, 1),
		"checksum":     alter(flags, flagChecksum),
		"no flags":     ping()[:headerSize+2],
		"no sections":  ping()[:kind],
		"unknown kind": alter(kind, 9),
		"no name":      alter(kind, 1),
		"body too big": alter(size, 0xff),
		"body empty":   newMessage(7, mustMarshal(bson.D{})),
		"two bodies":   append(ping(), ping()[kind:]...),
		"trailing":     append(ping(), 0),
		"element type": alter(size+4, 0x77),
	}
}

// Each is answered with an error, and the connection goes on.
func TestMalformedIsAnError(t *testing.T) {
	db, _ := start(t)
	client, err := net.Dial("tcp", primary(t, db))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	exchange := func(m message) (ok float64, errmsg string) {
		t.Helper()
		binary.LittleEndian.PutUint32(m, uint32(len(m)))
		if _, err := client.Write(m); err != nil {
			t.Fatal(err)
		}
		reply, err := readMessage(client)
		if err != nil {
			t.Fatal(err)
		}
		var answer struct {
			OK     float64 `bson:"ok"`
			Errmsg string  `bson:"errmsg"`
		}
		if err := reply.decode(&answer); err != nil {
			t.Fatal(err)
		}
		return answer.OK, answer.Errmsg
	}
	for name, m := range malformed() {
		if ok, errmsg := exchange(m); ok != 0 || errmsg == "" {
			t.Errorf("%s: ok %v %q, want an error", name, ok, errmsg)
		}
	}
	if ok, errmsg := exchange(ping()); ok != 1 {
		t.Errorf("after all that, ping: %q", errmsg)
	}
}

func FuzzMessage(f *testing.F) {
	f.Add([]byte(ping()))
	for _, m := range malformed() {
		f.Add([]byte(m))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < headerSize {
			return
		}
		m := message(b)
		body, err := m.body()
		if err != nil {
			return
		}
		m.section("updates")
		if _, err := parseCommand(body); err != nil && !strings.Contains(err.Error(), errMalformed.Error()) {
			t.Errorf("error %v is not %v", err, errMalformed)
		}
		_, _, _ = splitUpdate(m, body)
		_, _ = m.amend(relaxIndexes)
	})
}
