package embedded

import (
	"context"
	"encoding/binary"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/allsparkrt/allspark/envelope"
	"github.com/allsparkrt/allspark/graph"
)

// Claim implements graph.Store.
func (s *Store) Claim(ctx context.Context, r graph.Record, prev string) error {
	return s.putRecord(ctx, r, func(was graph.Record, there bool) error {
		switch {
		case prev == "" && there:
			return graph.ErrRecordExists
		case prev != "" && (!there || was.Boot != prev):
			return graph.ErrTakenOver
		}
		return nil
	})
}

// Renew implements graph.Store.
func (s *Store) Renew(ctx context.Context, r graph.Record) error {
	return s.putRecord(ctx, r, func(was graph.Record, there bool) error {
		if !there || was.Boot != r.Boot {
			return graph.ErrTakenOver
		}
		return nil
	})
}

// putRecord writes r unless check refuses it in view of the record stored.
func (s *Store) putRecord(ctx context.Context, r graph.Record, check func(was graph.Record, there bool) error) error {
	r.Links = slices.Clone(r.Links) // the update may outlive the call
	return s.do(ctx, lazy, func(b *pebble.Batch) error {
		var was graph.Record
		there, err := getJSON(b, serverKey(r.ID), &was)
		if err != nil {
			return err
		}
		if err := check(was, there); err != nil {
			return err
		}
		return setJSON(b, serverKey(r.ID), r)
	})
}

// Release implements graph.Store.
func (s *Store) Release(ctx context.Context, id envelope.ServerID, boot string) error {
	return s.do(ctx, lazy, func(b *pebble.Batch) error {
		var was graph.Record
		there, err := getJSON(b, serverKey(id), &was)
		if err != nil || !there || was.Boot != boot {
			return err
		}
		return b.Delete(serverKey(id), nil)
	})
}

// Servers implements graph.Store.
func (s *Store) Servers(ctx context.Context) ([]graph.Record, error) {
	return scanJSON[graph.Record](ctx, s, []byte{rowServer})
}

// PutEdges implements graph.Store.
func (s *Store) PutEdges(ctx context.Context, edges []graph.Edge) error {
	if len(edges) == 0 {
		return nil
	}
	edges = slices.Clone(edges)
	return s.do(ctx, lazy, func(b *pebble.Batch) error {
		for _, e := range edges {
			if err := setJSON(b, edgeKey(e.Addr, e.Server), e); err != nil {
				return err
			}
		}
		return nil
	})
}

// DeleteEdges implements graph.Store.
func (s *Store) DeleteEdges(ctx context.Context, edges []graph.Edge) error {
	if len(edges) == 0 {
		return nil
	}
	edges = slices.Clone(edges)
	return s.do(ctx, lazy, func(b *pebble.Batch) error {
		for _, e := range edges {
			key := edgeKey(e.Addr, e.Server)
			var was graph.Edge
			there, err := getJSON(b, key, &was)
			if err != nil {
				return err
			}
			if !there || was.Boot != e.Boot || was.Gen != e.Gen {
				continue
			}
			if err := b.Delete(key, nil); err != nil {
				return err
			}
		}
		return nil
	})
}

// Edges implements graph.Store.
func (s *Store) Edges(ctx context.Context, addrs ...envelope.Address) ([]graph.Edge, error) {
	var edges []graph.Edge
	for _, addr := range addrs {
		of, err := scanJSON[graph.Edge](ctx, s, edgePrefix(addr))
		if err != nil {
			return nil, err
		}
		edges = append(edges, of...)
	}
	return edges, nil
}

// EdgesOf implements graph.Store.
func (s *Store) EdgesOf(ctx context.Context, id envelope.ServerID, boot string) ([]graph.Edge, error) {
	all, err := scanJSON[graph.Edge](ctx, s, []byte{rowEdge})
	return slices.DeleteFunc(all, func(e graph.Edge) bool { return e.Server != id || e.Boot != boot }), err
}

// dropAtOnce is how many edges are deleted together.
const dropAtOnce = 512

// DropEdges implements graph.Store. It looks for the edges outside the
// committing goroutine, since there may be many, and deletes each as
// DeleteEdges does.
func (s *Store) DropEdges(ctx context.Context, id envelope.ServerID, boot string) error {
	all, err := s.EdgesOf(ctx, id, boot)
	if err != nil {
		return err
	}
	for some := range slices.Chunk(all, dropAtOnce) {
		if err := s.DeleteEdges(ctx, some); err != nil {
			return err
		}
	}
	return nil
}

// PutSightings implements graph.Store.
func (s *Store) PutSightings(ctx context.Context, sightings []graph.Sighting) error {
	if len(sightings) == 0 {
		return nil
	}
	sightings = slices.Clone(sightings)
	return s.do(ctx, lazy, func(b *pebble.Batch) error {
		for _, sight := range sightings {
			was, there, err := getSighting(b, sight.Addr)
			if err != nil {
				return err
			}
			if there && sight.At <= was.At {
				continue
			}
			if err := b.Set(sightingKey(sight.Addr), binary.AppendVarint(nil, sight.At), nil); err != nil {
				return err
			}
		}
		return nil
	})
}

// Sightings implements graph.Store.
func (s *Store) Sightings(ctx context.Context, addrs ...envelope.Address) ([]graph.Sighting, error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	var all []graph.Sighting
	for _, addr := range addrs {
		sight, there, err := getSighting(s.db, addr)
		if err != nil {
			return nil, err
		}
		if there {
			all = append(all, sight)
		}
	}
	return all, nil
}

func getSighting(from pebble.Reader, addr envelope.Address) (graph.Sighting, bool, error) {
	sight := graph.Sighting{Addr: addr}
	there, err := get(from, sightingKey(addr), func(value []byte) error {
		at, n := binary.Varint(value)
		if n != len(value) || n == 0 {
			return errDamaged
		}
		sight.At = at
		return nil
	})
	return sight, there, err
}
