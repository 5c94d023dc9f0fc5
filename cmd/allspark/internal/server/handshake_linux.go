package server

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/allsparkrt/allspark/internal/stack"
)

// handshakes is a listener that serves the handshakes of WebSockets by itself and
// hands all else to an [http.Server]. That one makes buffers, contexts and a second
// goroutine for each connection and loses them when it is hijacked: an eighth of
// what it costs to let a client in.
//
// What a connection begins with is looked at without being taken away. What is not
// plainly a handshake is net/http's to judge; so is one that comes later on the
// same connection, or by TLS.
type handshakes struct {
	net.Listener
	handler http.Handler
	log     *log.Logger
	others  chan net.Conn // no handshakes
	over    chan struct{} // closed when Listener is
}

// sift begins to serve handshakes that come to a listener, until it is closed. It
// returns a listener for the other connections.
func sift(l net.Listener, h http.Handler, log *log.Logger) net.Listener {
	if _, plain := l.(*net.TCPListener); !plain {
		return l
	}
	s := &handshakes{Listener: l, handler: h, log: log, others: make(chan net.Conn), over: make(chan struct{})}
	go s.run()
	return s
}

// Accept implements [net.Listener] for the other connections.
func (s *handshakes) Accept() (net.Conn, error) {
	select {
	case c := <-s.others:
		return c, nil
	case <-s.over:
		return nil, net.ErrClosed
	}
}

// run accepts connections until the listener is closed. When that fails for want of
// descriptors it waits a moment, as net/http does.
func (s *handshakes) run() {
	defer close(s.over)
	const least, most = 5 * time.Millisecond, time.Second
	for pause := least; ; {
		c, err := s.Listener.Accept()
		switch {
		case err == nil:
			pause = least
			go s.judge(c.(*net.TCPConn))
		case errors.Is(err, net.ErrClosed):
			return
		default:
			s.log.Printf("accepting a connection: %v; trying again in %v", err, pause)
			time.Sleep(pause)
			pause = min(2*pause, most)
		}
	}
}

// judge serves a handshake, or hands the connection on.
func (s *handshakes) judge(c *net.TCPConn) {
	_ = c.SetReadDeadline(time.Now().Add(headerTimeout))
	switch begin, err := peek(c); {
	case err != nil || begin == "":
		_ = c.Close()
	case begin == handshakeLine:
		stack.Reserve()
		s.serve(c)
	default:
		_ = c.SetReadDeadline(time.Time{})
		select {
		case s.others <- c:
		case <-s.over:
			_ = c.Close()
		}
	}
}

// handshakeLine is what handshakes begin with.
const handshakeLine = "GET /ws"

// peek waits for what comes first and returns it, as far as that is needed; "" when
// nothing will come. It is there to be read as before.
func peek(c *net.TCPConn) (begin string, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return "", err
	}
	var buf [len(handshakeLine)]byte
	var n int
	failed := raw.Read(func(fd uintptr) bool {
		n, _, err = unix.Recvfrom(int(fd), buf[:], unix.MSG_PEEK)
		return !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR)
	})
	return string(buf[:max(n, 0)]), errors.Join(failed, err)
}

// requests are buffers for the one request of a connection.
var requests = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 4<<10) }}

// serve answers the one request of a connection, which it closes when nobody has
// taken it over.
func (s *handshakes) serve(c *net.TCPConn) {
	in := requests.Get().(*bufio.Reader)
	limit := &io.LimitedReader{R: c, N: maxHeaderBytes}
	in.Reset(limit)
	a := &answer{conn: c, in: in, header: make(http.Header)}
	defer func() {
		if p := recover(); p != nil { // as in net/http, it concerns nobody else
			s.log.Printf("a handshake panicked: %v\n%s", p, debug.Stack())
			a.status = http.StatusSwitchingProtocols // what has been said of it is not known
		}
		a.end()
		in.Reset(nil)
		requests.Put(in)
	}()
	r, err := http.ReadRequest(in)
	_ = c.SetWriteDeadline(time.Now().Add(requestTimeout))
	switch {
	case err == nil:
		r.RemoteAddr = c.RemoteAddr().String()
		s.handler.ServeHTTP(a, r)
	case limit.N <= 0:
		http.Error(a, "the header is too large", http.StatusRequestHeaderFieldsTooLarge)
	default:
		http.Error(a, "this is not HTTP", http.StatusBadRequest)
	}
}

// lastWords is how long who has been refused may take to hear so.
const lastWords = 500 * time.Millisecond

// answer is the answer to a handshake: an [http.ResponseWriter] and [http.Hijacker].
type answer struct {
	conn     *net.TCPConn
	in       *bufio.Reader // what has come behind the request
	header   http.Header
	status   int // 0: none yet
	body     bytes.Buffer
	hijacked bool
}

// Header implements [http.ResponseWriter].
func (a *answer) Header() http.Header { return a.header }

// WriteHeader implements [http.ResponseWriter]. What follows 101 is not ours.
func (a *answer) WriteHeader(status int) {
	if a.status != 0 {
		return
	}
	if a.status = status; status == http.StatusSwitchingProtocols {
		a.send()
	}
}

// Write implements [http.ResponseWriter].
func (a *answer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(p)
}

// Hijack implements [http.Hijacker]. The reader holds what has come already, and
// does not share its memory with other connections.
func (a *answer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	a.hijacked = true
	_ = a.conn.SetDeadline(time.Time{})
	early, _ := a.in.Peek(a.in.Buffered()) // it is there
	early = bytes.Clone(early)
	in := bufio.NewReaderSize(io.MultiReader(bytes.NewReader(early), a.conn), len(early))
	_, _ = in.Peek(len(early))
	return a.conn, bufio.NewReadWriter(in, bufio.NewWriterSize(a.conn, 0)), nil
}

// end answers who has not been let in.
func (a *answer) end() {
	if a.hijacked {
		return
	}
	if a.WriteHeader(http.StatusOK); a.status != http.StatusSwitchingProtocols {
		a.header.Set("Connection", "close")
		a.header.Set("Content-Length", strconv.Itoa(a.body.Len()))
		a.header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
		a.send()
		// Closed with something unread, it would be reset, and the answer lost on
		// its way (RFC 9112, section 9.6).
		_ = a.conn.CloseWrite()
		_ = a.conn.SetReadDeadline(time.Now().Add(lastWords))
		_, _ = io.CopyN(io.Discard, a.conn, 2*maxHeaderBytes)
	}
	_ = a.conn.Close()
}

// send writes status, header and body.
func (a *answer) send() {
	out := bytes.NewBuffer(make([]byte, 0, 256))
	out.WriteString("HTTP/1.1 " + strconv.Itoa(a.status) + " " + http.StatusText(a.status) + "\r\n")
	_ = a.header.Write(out) // a buffer takes everything
	out.WriteString("\r\n")
	_, _ = a.body.WriteTo(out)
	_, _ = a.conn.Write(out.Bytes()) // who is gone is found so by who reads
}
