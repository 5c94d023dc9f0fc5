package main

import (
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// command is what the proxy needs to know of a request.
type command struct {
	name       string
	collection string // empty if the command has none
	traits     traits
	session    string // the id of its logical session, as bytes
	txn        int64
	retryable  bool // it carries a transaction number: a repetition must not apply twice
	inTxn      bool // it belongs to a multi-document transaction
}

// traits of a command, by its name.
type traits struct {
	writes    bool // needs the write lock
	handshake bool // a fault hits it only if it names it
	hello     bool // its reply is rewritten
}

func traitsOf(name string) traits {
	switch name {
	case "insert", "update", "delete", "findAndModify", "findandmodify",
		"create", "createIndexes", "drop", "dropDatabase", "dropIndexes", "collMod", "renameCollection":
		return traits{writes: true}
	case "hello", "isMaster", "ismaster":
		return traits{handshake: true, hello: true}
	case "buildInfo", "endSessions", "ping":
		return traits{handshake: true}
	}
	return traits{}
}

// parseCommand reads the body's first element, which names the command, and looks up
// the few others it needs; documents to be written are not decoded.
func parseCommand(body bson.Raw) (command, error) {
	first, err := body.IndexErr(0)
	if err != nil {
		return command{}, fmt.Errorf("%w: no command: %w", errMalformed, err)
	}
	name, err := first.KeyErr()
	if err != nil {
		return command{}, fmt.Errorf("%w: no command: %w", errMalformed, err)
	}
	c := command{name: name, traits: traitsOf(name)}
	c.collection, _ = first.Value().StringValueOK()
	if _, id, ok := body.Lookup("lsid", "id").BinaryOK(); ok {
		c.session = string(id)
	}
	if c.session != "" {
		c.txn, c.retryable = body.Lookup("txnNumber").Int64OK()
	}
	autocommit, ok := body.Lookup("autocommit").BooleanOK()
	c.inTxn = ok && !autocommit
	return c, nil
}
