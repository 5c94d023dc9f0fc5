package server

import (
	"context"
	"fmt"

	"github.com/allsparkrt/allspark/store/embedded"
	"github.com/allsparkrt/allspark/store/mongo"
)

// openStore opens the store that the configuration names. A MongoDB that
// cannot be reached is tried again until ctx ends, because servers and database
// start in any order; a directory that cannot be used is an error.
func (s *Server) openStore(ctx context.Context) (Store, error) {
	if s.store != nil {
		return s.store, nil
	}
	if s.cfg.MongoDBURI == "" {
		store, err := embedded.Open(embedded.Options{Dir: s.cfg.Data, Logger: s.log, Quotas: s.cfg.Quotas(), Late: s.sweep})
		if err != nil {
			return nil, fmt.Errorf("data: %w", err)
		}
		return store, nil
	}
	for pause := startRetry; ; pause = min(2*pause, startRetryMax) {
		store, err := mongo.Open(ctx, mongo.Options{
			URI: s.cfg.MongoDBURI, Database: s.cfg.MongoDBDatabase, Logger: s.log, Quotas: s.cfg.Quotas(),
		})
		if err == nil {
			return store, nil
		}
		if ctx.Err() == nil {
			s.log.Error("cannot use the database yet; trying again", "err", err, "in", pause)
		}
		if err := sleep(ctx, pause); err != nil {
			return nil, err
		}
	}
}

// sweep has readers told of what the store has written unnoticed.
func (s *Server) sweep() {
	if n := s.node.Load(); n != nil { // else nobody reads yet
		n.Sweep()
	}
}
