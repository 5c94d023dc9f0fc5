package server

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/allsparkrt/allspark/graph"
	"github.com/allsparkrt/allspark/store/embedded"
	"github.com/allsparkrt/allspark/store/mongo"
)

// metricsHandler serves what the node counts in the Prometheus text format.
func (s *Server) metricsHandler() http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collectors.NewBuildInfoCollector(),
		nodeCollector{s},
	)
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{})
}

// nodeCollector reads a server's counters when it is asked. It has nothing to
// say until there is a node.
type nodeCollector struct{ *Server }

// Describe implements prometheus.Collector; without descriptions the
// collector is unchecked, and may come and go.
func (nodeCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c nodeCollector) Collect(out chan<- prometheus.Metric) {
	n := c.node.Load()
	if n == nil {
		return
	}
	send := func(kind prometheus.ValueType, name, help string, value float64, labels ...string) {
		var names, values []string
		for i := 0; i < len(labels); i += 2 {
			names, values = append(names, labels[i]), append(values, labels[i+1])
		}
		out <- prometheus.MustNewConstMetric(prometheus.NewDesc("allspark_"+name, help, names, nil), kind, value, values...)
	}
	count := func(name, help string, v uint64, labels ...string) {
		send(prometheus.CounterValue, name, help, float64(v), labels...)
	}
	gauge := func(name, help string, v int, labels ...string) {
		send(prometheus.GaugeValue, name, help, float64(v), labels...)
	}

	gauge("connections", "Clients connected.", n.Connections())
	gauge("peer_links", "Servers a link is open to.", n.PeerLinks())
	gauge("servers", "Living servers of the mesh, this one included.", len(n.Servers()))
	collectHealth(n.Health(), send)

	st := n.Stats()
	count("connects_total", "Connections opened.", st.Connected.Load())
	count("disconnects_total", "Connections ended.", st.Disconnected.Load())
	count("frames_in_total", "Frames read from clients.", st.FramesIn.Load())
	count("frames_out_total", "Frames written to clients.", st.FramesOut.Load())
	count("messages_stored_total", "Entries appended to logs here, for other servers too, with notices, events and repetitions.", st.Stored.Load())
	count("messages_volatile_total", "Volatile and latest messages taken.", st.Volatile.Load())
	count("deliveries_total", "Live messages handed to readers here.", st.Delivered.Load())
	count("replayed_total", "Log entries read for readers that were behind.", st.Replayed.Load())
	count("conflated_total", "Latest messages replaced by newer ones.", st.Conflated.Load())
	const dropped, droppedHelp = "dropped_total", "Things dropped, by reason. What is durable is read from its log then."
	count(dropped, droppedHelp, st.DroppedAway.Load(), "reason", "volatile_nobody_connected")
	count(dropped, droppedHelp, st.DroppedSlow.Load(), "reason", "volatile_slow_reader")
	count(dropped, droppedHelp, st.DroppedRate.Load(), "reason", "volatile_rate_limit")
	count(dropped, droppedHelp, st.DroppedNotice.Load(), "reason", "notice_slow_reader")
	count("expired_total", "Messages not delivered because their time to live had passed.", st.Expired.Load())
	count("receipts_total", "Receipts told to senders who had asked for them.", st.Receipts.Load())
	count("receipts_forgotten_total", "Messages that asked for receipts, beyond what a connection remembers.", st.ReceiptsForgotten.Load())
	count(dropped, droppedHelp, st.ReceiptsUnknown.Load(), "reason", "receipt_unknown")
	count(dropped, droppedHelp, st.PeerDropped.Load(), "reason", "peer_queue_full")
	count(dropped, droppedHelp, st.PeerUnreachable.Load(), "reason", "peer_unreachable")
	count(dropped, droppedHelp, st.PeerMissed.Load(), "reason", "peer_moved")
	count(dropped, droppedHelp, n.CursorsLost(), "reason", "cursor_unsaved")
	count(dropped, droppedHelp, st.SightingsLost.Load(), "reason", "sighting_unsaved")
	const closed, closedHelp = "closed_total", "Connections that this server closed or refused, by reason."
	count(closed, closedHelp, st.Replaced.Load(), "reason", "replaced")
	count(closed, closedHelp, st.ClosedSlow.Load(), "reason", "slow_reader")
	count(closed, closedHelp, st.ClosedRevoked.Load(), "reason", "revoked")
	count(closed, closedHelp, st.RefusedFull.Load(), "reason", "full")
	count("read_errors_total", "Reads of logs that failed and were tried again.", st.ReadErrors.Load())
	count("sweeps_total", "Comparisons of positions with the heads.", st.Sweeps.Load())
	count("repaired_total", "Readers that had to be told of entries they were not sent.", st.Repaired.Load())
	count("trimmed_total", "Log entries removed by retention.", st.Trimmed.Load())
	count("trim_errors_total", "Logs that retention could not look at; it will again.", st.TidyErrors.Load())
	count("peer_frames_total", "Frames sent to other servers.", st.PeerFrames.Load())
	count("peer_records_total", "Records sent to other servers.", st.PeerRecords.Load())
	count("forwarded_total", "Appends handed to the server that owns the log.", st.Forwarded.Load())
	count("taken_back_total", "Appends made here because the server that owned the log was lost.", st.TakenBack.Load())
	count("peer_relayed_total", "Records passed on for other servers.", st.PeerRelayed.Load())
	const limited, limitedHelp = "limited_total", "Messages, calls and connections refused, by the limit that was reached."
	for limit, v := range n.Limited() {
		count(limited, limitedHelp, v, "limit", limit)
	}
	count(limited, limitedHelp, c.sockets.over.Load(), "limit", "http_connections")
	count(limited, limitedHelp, c.sockets.overAddress.Load(), "limit", "address_http_connections")
	count(limited, limitedHelp, c.peerSockets.over.Load()+c.peerSockets.overAddress.Load(), "limit", "peer_http_connections")
	count("accept_errors_total", "Connections that could not be accepted, as for want of a descriptor.", c.acceptErrors.Load())
	if recorded, receivers := n.HookStats(); recorded != nil {
		count("hook_events_total", "Events put into the outbox for the app's backend.", recorded.Recorded.Load())
		count(dropped, droppedHelp, recorded.DroppedFull.Load(), "reason", "event_queue_full")
		count(dropped, droppedHelp, recorded.DroppedRoom.Load(), "reason", "event_outbox_full")
		count(dropped, droppedHelp, recorded.DroppedEnd.Load(), "reason", "event_shutdown")
		gone := uint64(0)
		for _, d := range receivers {
			name, st := d.Receiver().Name, &d.Stats
			count("hook_delivered_total", "Events that a receiver has taken.", st.Delivered.Load(), "receiver", name)
			count("hook_retries_total", "Requests that a receiver has not taken and that are repeated.", st.Failed.Load(), "receiver", name)
			count("hook_errors_total", "Times the store did not let events be delivered; they wait.", st.Errors.Load(), "receiver", name)
			failing, paused := d.Failing()
			gauge("hook_failing", "Partitions whose events this server does not get rid of.", failing, "receiver", name)
			gauge("hook_paused", "Of these, those where the receiver has answered 410 and is asked once in an hour.", paused, "receiver", name)
			gone += st.Gone.Load()
		}
		count(dropped, droppedHelp, gone, "reason", "event_retention")
	}
	for code, v := range st.Refusals() {
		count("refusals_total", "Frames and calls refused, by code.", v, "code", string(code))
	}
	describePush(n.PushStats(), count)
	describeAuthorize(n.AuthorizeStats(), count, gauge)
	collectGraph(n.Graph().Stats(), count)
	if db := c.database.Load(); db != nil {
		collectMongo(db.Stats(), func(name, help string, v int64, labels ...string) { count(name, help, uint64(v), labels...) })
	}
	if disk := c.disk.Load(); disk != nil {
		collectEmbedded(disk.Stats(), count, gauge)
	}
}

func collectEmbedded(st embedded.Stats, count func(name, help string, v uint64, labels ...string), gauge func(name, help string, v int, labels ...string)) {
	const ids, idsHelp = "store_ids_total", "Ids of messages to be stored: known from memory to be new, or looked up."
	count(ids, idsHelp, uint64(st.Fresh), "by", "memory")
	count(ids, idsHelp, uint64(st.Asked), "by", "look_up")
	count("store_repeated_total", "Messages whose id was there already.", uint64(st.Repeated))
	count("store_batches_total", "Batches written.", uint64(st.Batches))
	count("store_ahead_total", "Messages made ready while another batch was being written.", uint64(st.Ahead))
	count("store_waits_total", "Times that a write or the opening of a file waited for a second, because the disk was full or too many files were open.", uint64(st.Waits))
	gauge("store_filter_bytes", "Memory taken to know which ids are new.", int(st.FilterBytes))
}

func collectMongo(st mongo.Stats, count func(name, help string, v int64, labels ...string)) {
	const refused, refusedHelp = "mongodb_appends_refused_total", "Appends refused by the store, by reason. Their senders were told."
	count(refused, refusedHelp, st.Full, "reason", "queue_full")
	count(refused, refusedHelp, st.Away, "reason", "no_answer")
	count(refused, refusedHelp, st.NoSpace, "reason", "database_full")
	count(refused, refusedHelp, st.Quota, "reason", "quota")
	count(refused, refusedHelp, st.Closed, "reason", "closed")
	count("mongodb_overtaken_total", "Inserts that another server was faster than.", st.Overtaken)
	count("mongodb_unknown_total", "Tries of inserts whose outcome was unknown.", st.Unknown)
	count("mongodb_outages_total", "Times the database stopped answering.", st.Outages)
	count("mongodb_refused_total", "Calls and appends refused at once for as long as it did not answer.", st.Refused)
}

func collectGraph(g graph.Stats, count func(name, help string, v uint64, labels ...string)) {
	count("route_hits_total", "Routes answered from the cache; none with a store of its own, where there are no others.", g.RouteHits)
	count("route_waits_total", "Routes that waited for a look into the store.", g.RouteWaits)
	count("dropped_total", "Things dropped, by reason. What is durable is read from its log then.", g.RouteDrops, "reason", "route_queue_full")
	count("edge_lookups_total", "Edge lookups in the store.", g.Lookups)
	count("edge_lookup_errors_total", "Edge lookups that failed and were tried again.", g.LookupErrors)
	count("edge_writes_total", "Edges written.", g.EdgePuts)
	count("edge_deletes_total", "Edges deleted.", g.EdgeDeletes)
	count("edge_errors_total", "Failed writes and deletes of edges.", g.EdgeErrors)
	count("lease_renewals_total", "Renewals of the lease.", g.Renewals)
	count("lease_errors_total", "Renewals of the lease that failed.", g.RenewalErrors)
	count("lease_poll_errors_total", "Failed looks at the leases of others.", g.PollErrors)
	count("freezes_total", "Times this process found that it had stood still.", g.Freezes)
	count("gossip_rejoins_total", "Gossip joins after the first.", g.Rejoins)
	count("gossip_bad_meta_total", "Malformed gossip metadata ignored.", g.BadMeta)
	count("gossip_conflicts_total", "Gossip addresses under one server id.", g.Conflicts)
}
