package scenario

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/coder/websocket"

	"github.com/allsparkrt/allspark/envelope"
)

// member is a connection that follows a topic, with as little behind it as can
// be: with thousands of them the load must not cost more than the servers.
type member struct {
	ws  *websocket.Conn
	buf bytes.Buffer // of the reader
}

// dialWithin bounds the opening of one connection.
const dialWithin = time.Minute

// joinTopic opens a connection for a device and returns when it follows the
// topic.
func joinTopic(ctx context.Context, hc *http.Client, server string, d Device, topic envelope.SessionID) (*member, error) {
	ctx, cancel := context.WithTimeout(ctx, dialWithin)
	defer cancel()
	url, token, err := preconnect(ctx, hc, server, d)
	if err != nil {
		return nil, err
	}
	ws, _, err := websocket.Dial(ctx, url+"/ws", &websocket.DialOptions{
		HTTPClient: hc, Subprotocols: []string{"allspark.v2.json", "bearer." + token},
	})
	if err != nil {
		return nil, err
	}
	m := &member{ws: ws}
	resume := false
	for _, frame := range []envelope.Control{
		{Control: envelope.ControlHello, Resume: &resume},
		{Control: envelope.ControlSubscribe, Topics: []envelope.SessionID{topic}},
	} {
		if err := ws.Write(ctx, websocket.MessageText, frame.AppendJSON(nil)); err != nil {
			return nil, errors.Join(err, ws.CloseNow())
		}
	}
	for {
		frame, err := m.read(ctx)
		if err != nil {
			return nil, errors.Join(err, ws.CloseNow())
		}
		answer, err := envelope.ParseControl(frame)
		switch {
		case err != nil:
		case answer.Control == envelope.ControlSubscribed:
			return m, nil
		case answer.Control == envelope.ControlError:
			return nil, errors.Join(fmt.Errorf("scenario: %s: %s", answer.Code, answer.Detail), ws.CloseNow())
		}
	}
}

// preconnect asks a server where a device may connect: here, if it may.
func preconnect(ctx context.Context, hc *http.Client, server string, d Device) (url, token string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, server+"/v1/connect", http.NoBody)
	if err != nil {
		return "", "", err
	}
	req.Header.Set("Authorization", "Bearer "+d.Key)
	resp, err := hc.Do(req)
	if err != nil {
		return "", "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return "", "", errors.Join(err, fmt.Errorf("scenario: %s answers %s: %s", server, resp.Status, body))
	}
	var found struct {
		Servers []struct {
			URL   string `json:"url"`
			Token string `json:"validation_token"`
		} `json:"servers"`
	}
	if err := json.Unmarshal(body, &found); err != nil {
		return "", "", err
	}
	for _, s := range found.Servers {
		if strings.TrimSuffix(s.URL, "/") == server { // the load says who is where
			return server, s.Token, nil
		}
	}
	if len(found.Servers) == 0 {
		return "", "", errors.New("scenario: no server takes connections")
	}
	return strings.TrimSuffix(found.Servers[0].URL, "/"), found.Servers[0].Token, nil
}

// read returns the next frame, which is valid until the next call.
func (m *member) read(ctx context.Context) ([]byte, error) {
	_, r, err := m.ws.Reader(ctx)
	if err != nil {
		return nil, err
	}
	m.buf.Reset()
	_, err = m.buf.ReadFrom(r)
	return m.buf.Bytes(), err
}

// say sends a volatile message to the topic.
func (m *member) say(ctx context.Context, topic envelope.SessionID, s stamp, size int) error {
	e := envelope.Envelope{DestSession: topic, Class: envelope.Volatile, Body: s.body(size)}
	return m.ws.Write(ctx, websocket.MessageText, e.AppendRequest(nil))
}

// heard reads the stamp of a frame; false: it is no message of the run.
func heard(frame []byte, run string) (stamp, bool) {
	i := bytes.Index(frame, payloadStart)
	if i < 0 {
		return stamp{}, false
	}
	s, ok := readStamp(frame[i:])
	return s, ok && s.run == run
}
