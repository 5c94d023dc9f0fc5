package server

import (
	"bytes"
	"log/slog"
	"sync/atomic"
	"time"
)

// webLog takes what net/http has to say. That is about clients' connections and
// no news, unless connections cannot be accepted at all. A [log.Logger] writes to
// it, so there is one Write at a time.
type webLog struct {
	log    *slog.Logger
	failed *atomic.Uint64 // connections that could not be accepted
	warned time.Time
}

const (
	acceptError = "http: Accept error: "
	// warnEvery is how often it is said that connections cannot be accepted, which
	// may be tried many times a second.
	warnEvery = 10 * time.Second
)

// Write implements [io.Writer].
func (l *webLog) Write(text []byte) (int, error) {
	why, accepting := bytes.CutPrefix(text, []byte(acceptError))
	if accepting {
		l.failed.Add(1)
		if time.Since(l.warned) >= warnEvery {
			l.warned = time.Now()
			l.log.Warn("cannot accept connections", "err", string(bytes.TrimSpace(why)))
			return len(text), nil
		}
	}
	l.log.Debug(string(bytes.TrimSpace(text)))
	return len(text), nil
}
