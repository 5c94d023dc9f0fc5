package server

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/allsparkrt/allspark/gateway"
)

// collectHealth tells how the server is at this moment.
func collectHealth(h gateway.Health, send func(kind prometheus.ValueType, name, help string, value float64, labels ...string)) {
	gauge := func(name, help string, value float64, labels ...string) {
		send(prometheus.GaugeValue, name, help, value, labels...)
	}
	gauge("waiting_frames", "Frames that wait to be written to clients.", float64(h.Waiting))
	gauge("waiting_frames_longest", "Of these for one client.", float64(h.Longest))
	gauge("clients_behind", "Clients that are sent what they have missed.", float64(h.Behind))
	gauge("store_write_seconds", "What the last renewal of the lease in the store has taken.", h.StoreWrite.Seconds())
	for _, l := range h.Links {
		to := string(l.Server)
		gauge("peer_round_trip_seconds", "Of the last sign of life that another server has answered, waiting included.", l.RoundTrip.Seconds(), "peer", to)
		gauge("peer_queued_records", "Records that wait to be sent to another server.", float64(l.Records), "peer", to)
		gauge("peer_queued_bytes", "Bytes that these take.", float64(l.Bytes), "peer", to)
	}
}
