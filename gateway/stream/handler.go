package stream

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
)

// How long a poll waits for a first frame.
const (
	defaultWait = 25 * time.Second
	maxWait     = 50 * time.Second // proxies often give up after 60
)

// pollWithin bounds what a poll takes besides waiting: the connection's begin
// and end, and the answer's way.
const pollWithin = time.Minute

// Handler serves the end points for clients without a WebSocket:
//
//	GET /v1/stream?last_event_id=POSITION&topic=ID&token=TOKEN
//	GET /v1/poll?cursors=POSITION&wait=25s&topic=ID&token=TOKEN
//
// The credential is an auth key in the Authorization header or, for an
// EventSource, which cannot set headers, a validation token in the query. A
// position is the id of an event or the cursors of an answer; the header
// Last-Event-ID goes before the query. Without one, delivery goes on from the
// stored cursors. Topics to follow, of which there may be several, are named in
// each request; between two polls what they do not keep is lost.
type Handler struct {
	Core     gateway.Core
	Verifier *auth.Verifier
	Tickets  *auth.Tickets
	Codec    func() gateway.Codec // of frames in JSON
	Log      *slog.Logger
	// Context ends when connections must end at once.
	Context context.Context
	// Entered is told when a request becomes a connection of the Core, and what it
	// returns when it is one no more; nil: nobody is told.
	Entered func(*http.Request) (left func())
}

// Register adds the end points to a mux.
func (h *Handler) Register(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/stream", h.serveStream)
	mux.HandleFunc("GET /v1/poll", h.servePoll)
}

func (h *Handler) serveStream(w http.ResponseWriter, r *http.Request) {
	text := r.Header.Get("Last-Event-ID")
	if text == "" {
		text = r.URL.Query().Get("last_event_id")
	}
	at, err := parsePosition(text)
	var topics []envelope.SessionID
	if err == nil {
		topics, err = topicsOf(r)
	}
	var who auth.Verified
	if err == nil {
		who, err = h.authenticate(r)
	}
	if err != nil {
		gateway.Refuse(w, h.Core, h.Log, err)
		return
	}
	header := w.Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Accel-Buffering", "no") // nginx
	t := newEvents(w, r, at, topics)
	if err := t.begin(); err != nil {
		h.Log.Debug("a stream did not begin", "err", err)
		return
	}
	h.serve(r, who, t)
	t.leave()
}

func (h *Handler) servePoll(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	at, err := parsePosition(q.Get("cursors"))
	wait := defaultWait
	if text := q.Get("wait"); text != "" && err == nil {
		wait, err = time.ParseDuration(text)
		if err != nil || wait < 0 || wait > maxWait {
			err = envelope.Errorf(envelope.BadRequest, "wait is a duration up to %v, such as 25s", maxWait)
		}
	}
	var topics []envelope.SessionID
	if err == nil {
		topics, err = topicsOf(r)
	}
	var who auth.Verified
	if err == nil {
		who, err = h.authenticate(r)
	}
	if err != nil {
		gateway.Refuse(w, h.Core, h.Log, err)
		return
	}
	if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(wait + pollWithin)); err != nil {
		gateway.Refuse(w, h.Core, h.Log, err)
		return
	}
	t := newBatch(at, topics)
	defer time.AfterFunc(wait, t.waited).Stop()
	defer time.AfterFunc(wait+replayGrace, t.Abort).Stop()
	defer context.AfterFunc(r.Context(), t.Abort)()
	h.serve(r, who, t)

	answer, err := t.answer()
	if err != nil {
		gateway.Refuse(w, h.Core, h.Log, err)
		return
	}
	gateway.WriteVerbatim(w, answer)
}

// serve runs a connection that lives in the answer to a request.
func (h *Handler) serve(r *http.Request, who auth.Verified, t gateway.Transport) {
	if h.Entered != nil {
		defer h.Entered(r)()
	}
	h.Core.Serve(h.Context, who.Principal, t, h.Codec(), gateway.Options{
		Hello: true, Address: gateway.AddressOf(r.Context()),
		Expires: who.Expires.Add(auth.Leeway), JTI: who.JTI, Issued: who.Issued,
	})
}

// topicsOf returns the topics that a request names.
func topicsOf(r *http.Request) ([]envelope.SessionID, error) {
	var topics []envelope.SessionID
	for _, id := range r.URL.Query()["topic"] {
		topics = append(topics, envelope.SessionID(id))
	}
	return topics, envelope.CheckTopics(topics)
}

// authenticate finds out who calls. Whether there is room is asked first: a
// token refused for want of room stays good.
func (h *Handler) authenticate(r *http.Request) (auth.Verified, error) {
	if r.Method == http.MethodHead {
		return auth.Verified{}, envelope.Errorf(envelope.BadRequest, "a connection is opened with GET")
	}
	if err := h.Core.Admit(); err != nil {
		return auth.Verified{}, err
	}
	if token := r.URL.Query().Get("token"); token != "" && r.Header.Get("Authorization") == "" {
		id, boot := h.Core.Self()
		return h.Tickets.Redeem(token, id, boot)
	}
	key, err := auth.Bearer(r)
	if err != nil {
		return auth.Verified{}, err
	}
	return h.Verifier.Verify(r.Context(), key)
}
