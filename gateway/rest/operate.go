package rest

import (
	"net/http"
	"time"

	"github.com/allsparkrt/allspark/auth"
	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/gateway"
)

type meshReply struct {
	Servers []meshServerReply `json:"servers"`
}

type meshServerReply struct {
	Server   envelope.ServerID   `json:"server"`
	Boot     string              `json:"boot"`
	URL      string              `json:"url"`
	ProxyURL string              `json:"proxy_url,omitempty"`
	Zone     string              `json:"zone,omitempty"`
	Load     int                 `json:"load"` // connections
	MaxLoad  int                 `json:"max_load"`
	Draining bool                `json:"draining"`
	Answers  bool                `json:"answers"` // it is the one that was asked
	Links    []envelope.ServerID `json:"links"`
	AgeMS    int64               `json:"age_ms"` // since it has shown to live
	Health   *healthReply        `json:"health,omitempty"`
}

// healthReply is what a server says of itself; times in milliseconds and
// microseconds.
type healthReply struct {
	RoundTripUS  int64             `json:"round_trip_us"`  // of the question
	ClockAheadMS int64             `json:"clock_ahead_ms"` // of the clock of the server that was asked
	StoreWriteUS int64             `json:"store_write_us"` // what renewing the lease in the store has taken
	Waiting      int               `json:"waiting"`        // frames for clients
	Longest      int               `json:"longest"`        // of these for one client
	Behind       int               `json:"behind"`         // clients
	Links        []linkHealthReply `json:"links"`
}

type linkHealthReply struct {
	Server        envelope.ServerID `json:"server"`
	RoundTripUS   int64             `json:"round_trip_us"`
	QueuedRecords int               `json:"queued_records"`
	QueuedBytes   int               `json:"queued_bytes"`
}

// mesh answers GET /v1/mesh.
func (h *Handler) mesh(r *http.Request, who auth.Verified) (any, error) {
	ev, err := h.Core.Do(r.Context(), who.Principal, gateway.GetMesh{})
	if err != nil {
		return nil, err
	}
	reply := meshReply{Servers: []meshServerReply{}}
	for _, s := range ev.(gateway.Mesh).Servers {
		reply.Servers = append(reply.Servers, meshServerReply{
			Server: s.ID, Boot: s.Boot, URL: s.URL, ProxyURL: s.ProxyURL, Zone: s.Zone,
			Load: s.Load, MaxLoad: s.MaxLoad, Draining: s.Draining, Answers: s.Self, Links: orEmpty(s.Links),
			AgeMS: s.Age.Milliseconds(), Health: healthOf(s.Health),
		})
	}
	return reply, nil
}

func healthOf(h *gateway.Health) *healthReply {
	if h == nil {
		return nil
	}
	reply := healthReply{
		RoundTripUS: h.RoundTrip.Microseconds(), ClockAheadMS: h.Ahead.Round(time.Millisecond).Milliseconds(), StoreWriteUS: h.StoreWrite.Microseconds(),
		Waiting: h.Waiting, Longest: h.Longest, Behind: h.Behind, Links: []linkHealthReply{},
	}
	for _, l := range h.Links {
		reply.Links = append(reply.Links, linkHealthReply{l.Server, l.RoundTrip.Microseconds(), l.Records, l.Bytes})
	}
	return &reply
}

type drainReply struct {
	Server envelope.ServerID `json:"server"`
	Boot   string            `json:"boot"`
}

// drain answers POST /v1/servers/{id}/drain.
func (h *Handler) drain(r *http.Request, who auth.Verified) (any, error) {
	if err := readJSON(r, &struct{}{}); err != nil {
		return nil, err
	}
	ev, err := h.Core.Do(r.Context(), who.Principal, gateway.DrainServer{Server: envelope.ServerID(r.PathValue("id"))})
	if err != nil {
		return nil, err
	}
	d := ev.(gateway.Draining)
	return drainReply{d.Server, d.Boot}, nil
}
