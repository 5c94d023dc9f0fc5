package mongo

import (
	"context"
	"errors"
	"maps"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/graph"
)

// serverRow is a document of the collection servers.
type serverRow struct {
	ID       string              `bson:"_id"`
	Boot     string              `bson:"b"`
	Beat     int64               `bson:"t"`
	Addr     string              `bson:"addr,omitempty"`
	URL      string              `bson:"url,omitempty"`
	ProxyURL string              `bson:"proxy,omitempty"`
	PeerURL  string              `bson:"peer,omitempty"`
	Gossip   string              `bson:"gossip,omitempty"`
	Zone     string              `bson:"zone,omitempty"`
	Load     int                 `bson:"load,omitempty"`
	MaxLoad  int                 `bson:"max,omitempty"`
	Draining bool                `bson:"drain,omitempty"`
	Links    []envelope.ServerID `bson:"links,omitempty"`
	Revivals uint64              `bson:"revivals,omitempty"`
}

func serverRowOf(r graph.Record) serverRow {
	return serverRow{
		ID: string(r.ID), Boot: r.Boot, Beat: int64(r.Beat), Addr: r.Addr, URL: r.URL, ProxyURL: r.ProxyURL,
		PeerURL: r.PeerURL, Gossip: r.Gossip, Zone: r.Zone, Load: r.Load, MaxLoad: r.MaxLoad,
		Draining: r.Draining, Links: r.Links, Revivals: r.Revivals,
	}
}

func (r serverRow) record() graph.Record {
	return graph.Record{
		ID: envelope.ServerID(r.ID), Boot: r.Boot, Beat: uint64(r.Beat), Addr: r.Addr, URL: r.URL, ProxyURL: r.ProxyURL,
		PeerURL: r.PeerURL, Gossip: r.Gossip, Zone: r.Zone, Load: r.Load, MaxLoad: r.MaxLoad,
		Draining: r.Draining, Links: r.Links, Revivals: r.Revivals,
	}
}

// Claim implements [graph.Store].
func (s *Store) Claim(ctx context.Context, r graph.Record, prev string) error {
	return s.change(ctx, func(ctx context.Context, again bool) error {
		var taken error
		if prev == "" {
			_, err := s.servers.InsertOne(ctx, serverRowOf(r))
			if !mongo.IsDuplicateKeyError(err) {
				return err
			}
			taken = graph.ErrRecordExists
		} else {
			done, err := s.replaceServer(ctx, r, prev)
			if done || err != nil {
				return err
			}
			taken = graph.ErrTakenOver
		}
		if !again {
			return taken
		}
		// Perhaps by this very call: a boot is of one process only.
		var row serverRow
		err := s.servers.FindOne(ctx, byID(string(r.ID))).Decode(&row)
		switch {
		case err == nil && row.Boot == r.Boot:
			return nil
		case err == nil && row.Boot == prev:
			return errOld
		case err == nil, prev != "" && errors.Is(err, mongo.ErrNoDocuments):
			return taken
		}
		return err
	})
}

// replaceServer replaces a record if its boot is prev, and reports whether it was.
func (s *Store) replaceServer(ctx context.Context, r graph.Record, prev string) (bool, error) {
	result, err := s.servers.ReplaceOne(ctx, byID(string(r.ID), equals("b", prev)), serverRowOf(r))
	return err == nil && result.MatchedCount == 1, err
}

// Renew implements [graph.Store].
func (s *Store) Renew(ctx context.Context, r graph.Record) error {
	return s.change(ctx, func(ctx context.Context, _ bool) error {
		done, err := s.replaceServer(ctx, r, r.Boot)
		if !done && err == nil {
			return graph.ErrTakenOver
		}
		return err
	})
}

// Release implements [graph.Store].
func (s *Store) Release(ctx context.Context, id envelope.ServerID, boot string) error {
	return s.change(ctx, func(ctx context.Context, _ bool) error {
		_, err := s.servers.DeleteOne(ctx, byID(string(id), equals("b", boot)))
		return err
	})
}

// Servers implements [graph.Store].
func (s *Store) Servers(ctx context.Context) (records []graph.Record, err error) {
	err = s.query(ctx, func(ctx context.Context, _ bool) error {
		rows, err := all[serverRow](ctx, s.servers, bson.D{})
		records = make([]graph.Record, len(rows))
		for i, r := range rows {
			records[i] = r.record()
		}
		return err
	})
	return records, err
}

// edgeRow is a document of the collection edges.
type edgeRow struct {
	ID     string `bson:"_id"`
	Addr   string `bson:"a"`
	Server string `bson:"v"`
	Boot   string `bson:"b"`
	Gen    int64  `bson:"g"`
	Conn   string `bson:"c,omitempty"`
}

func edgeRowOf(e graph.Edge) edgeRow {
	addr := e.Addr.String()
	return edgeRow{addr + "|" + string(e.Server), addr, string(e.Server), e.Boot, int64(e.Gen), e.Conn}
}

// PutEdges implements [graph.Store].
func (s *Store) PutEdges(ctx context.Context, edges []graph.Edge) error {
	writes := make([]mongo.WriteModel, len(edges))
	for i, e := range edges {
		row := edgeRowOf(e)
		writes[i] = mongo.NewReplaceOneModel().
			SetFilter(byID(row.ID, equals("a", row.Addr))).SetReplacement(row).SetUpsert(true)
	}
	return s.change(ctx, func(ctx context.Context, _ bool) error { return bulk(ctx, s.edges, writes) })
}

// DeleteEdges implements [graph.Store].
func (s *Store) DeleteEdges(ctx context.Context, edges []graph.Edge) error {
	writes := make([]mongo.WriteModel, len(edges))
	for i, e := range edges {
		row := edgeRowOf(e)
		writes[i] = mongo.NewDeleteOneModel().
			SetFilter(byID(row.ID, equals("a", row.Addr), equals("b", row.Boot), equals("g", row.Gen)))
	}
	return s.change(ctx, func(ctx context.Context, _ bool) error { return bulk(ctx, s.edges, writes) })
}

// Edges implements [graph.Store].
func (s *Store) Edges(ctx context.Context, addrs ...envelope.Address) (edges []graph.Edge, err error) {
	if len(addrs) == 0 {
		return nil, nil
	}
	names, byName := namesOf(addrs)
	err = s.query(ctx, func(ctx context.Context, _ bool) error {
		rows, err := all[edgeRow](ctx, s.edges, bson.D{{Key: "a", Value: bson.D{{Key: "$in", Value: names}}}})
		edges = make([]graph.Edge, len(rows))
		for i, r := range rows {
			edges[i] = graph.Edge{Addr: byName[r.Addr], Server: envelope.ServerID(r.Server), Boot: r.Boot, Gen: uint64(r.Gen), Conn: r.Conn}
		}
		return err
	})
	return edges, err
}

// namesOf returns the text forms of addresses, each once, and what they mean.
func namesOf(addrs []envelope.Address) ([]string, map[string]envelope.Address) {
	byName := make(map[string]envelope.Address, len(addrs))
	for _, addr := range addrs {
		byName[addr.String()] = addr
	}
	return slices.Collect(maps.Keys(byName)), byName
}

// EdgesOf implements [graph.Store].
func (s *Store) EdgesOf(ctx context.Context, id envelope.ServerID, boot string) (edges []graph.Edge, err error) {
	err = s.query(ctx, func(ctx context.Context, _ bool) error {
		rows, err := all[edgeRow](ctx, s.edges, bson.D{equals("v", string(id)), equals("b", boot)})
		edges = make([]graph.Edge, len(rows))
		for i, r := range rows {
			addr, err := envelope.ParseAddress(r.Addr)
			if err != nil {
				return damaged("edge", err)
			}
			edges[i] = graph.Edge{Addr: addr, Server: id, Boot: boot, Gen: uint64(r.Gen), Conn: r.Conn}
		}
		return err
	})
	return edges, err
}

// DropEdges implements [graph.Store].
func (s *Store) DropEdges(ctx context.Context, id envelope.ServerID, boot string) error {
	return s.change(ctx, func(ctx context.Context, _ bool) error {
		_, err := s.edges.DeleteMany(ctx, bson.D{equals("v", string(id)), equals("b", boot)})
		return err
	})
}
