package apns

import (
	"crypto/tls"
	"io"
	"net/http"
	"testing"

	"golang.org/x/net/http2"

	"github.com/allsparkrt/allspark/internal/pushtest"
)

// TestConnectionLost has the connection break off without an answer.
func TestConnectionLost(t *testing.T) {
	service := pushtest.NewAPNs(t)
	sender := newSender(t, service)
	service.Then(pushtest.Answer{Drop: true})
	if f := failure(t, sender.Send(t.Context(), device, hello())); !f.Retry || f.Gone || f.Reason != "unreachable" {
		t.Errorf("got %+v", f)
	}
	if err := sender.Send(t.Context(), device, hello()); err != nil {
		t.Error(err)
	}
	if n := service.Connections(); n != 2 {
		t.Errorf("%d connections", n)
	}
}

// TestGoAwayAfterAnswer has the service close the connection in good order.
func TestGoAwayAfterAnswer(t *testing.T) {
	service := pushtest.NewAPNs(t)
	sender := newSender(t, service)
	answer := pushtest.APNsReason(503, "Shutdown")
	answer.Header = http.Header{"Connection": {"close"}} // Go's server makes a GOAWAY of it
	service.Then(answer)
	if f := failure(t, sender.Send(t.Context(), device, hello())); !f.Retry || f.Reason != "Shutdown" {
		t.Errorf("got %+v", f)
	}
	if err := sender.Send(t.Context(), device, hello()); err != nil || service.Connections() != 2 {
		t.Errorf("%v, %d connections", err, service.Connections())
	}
}

// TestGoAway has GOAWAY frames in place of answers: what the service has not
// looked at is sent again at once, of what it may have the failure is told.
func TestGoAway(t *testing.T) {
	authority := pushtest.NewAPNs(t)
	data := authority.Certificate(t)
	certificate, err := tls.X509KeyPair(data, data)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name    string
		code    http2.ErrCode
		handled bool // the last stream named is the request's
		want    bool // sent on another connection
	}{
		{"not looked at", http2.ErrCodeNo, false, true},
		{"not looked at, and calm asked for", http2.ErrCodeEnhanceYourCalm, false, false},
		{"looked at", http2.ErrCodeInternal, true, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h2"}})
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			served := make(chan int, 1)
			go func() {
				count := 0
				defer func() { served <- count }()
				for {
					conn, err := listener.Accept()
					if err != nil {
						return
					}
					count++
					answerOnce(conn.(*tls.Conn), func(framer *http2.Framer, stream uint32) error {
						if count > 1 {
							return framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: []byte{0x88}, EndHeaders: true, EndStream: true}) // :status 200
						}
						if !test.handled {
							stream = 0
						}
						return framer.WriteGoAway(stream, test.code, []byte(`{"reason":"Shutdown"}`))
					})
				}
			}()
			url := "https://" + listener.Addr().String()
			sender, err := New(Config{Key: authority.Key, KeyID: authority.KeyID, TeamID: authority.TeamID, Production: url, RootCAs: authority.Roots})
			if err != nil {
				t.Fatal(err)
			}
			defer sender.Close()
			err = sender.Send(t.Context(), device, hello())
			if test.want && err != nil {
				t.Error(err)
			}
			if !test.want {
				if f := failure(t, err); !f.Retry || f.Gone {
					t.Errorf("got %+v", f)
				}
			}
			sender.Close()
			listener.Close()
			if n := <-served; test.want && n != 2 || !test.want && n != 1 {
				t.Errorf("%d connections", n)
			}
		})
	}
}

// answerOnce reads a connection up to the end of one request, answers, and ends
// it.
func answerOnce(conn *tls.Conn, answer func(*http2.Framer, uint32) error) {
	defer conn.Close()
	if _, err := io.ReadFull(conn, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	framer := http2.NewFramer(conn, conn)
	if framer.WriteSettings() != nil {
		return
	}
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return
		}
		if data, ok := frame.(*http2.DataFrame); ok && data.StreamEnded() {
			if answer(framer, data.StreamID) == nil && conn.CloseWrite() == nil {
				_, _ = io.Copy(io.Discard, conn) // until the client has read it
			}
			return
		}
	}
}
