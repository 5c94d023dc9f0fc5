package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/allsparkrt/allspark/bench/peer"
	"github.com/allsparkrt/allspark/bench/peer/allspark"
	"github.com/allsparkrt/allspark/bench/peer/peers"
)

// targets returns all that can be driven, ours first and floors last.
func targets(o allspark.Options) []peer.Target {
	all := []peer.Target{allspark.One(o), allspark.Three(o)}
	if o.MongoURI != "" {
		all = append(all, allspark.Mongo(o))
	}
	return append(all, peers.All()...)
}

// choose returns those whose names are given, in the order of all; "all" means
// all.
func choose[T any](all []T, name func(T) string, names []string) ([]T, error) {
	var known []string
	for _, one := range all {
		known = append(known, name(one))
	}
	for _, n := range names {
		if n != "all" && !slices.Contains(known, n) {
			return nil, fmt.Errorf("%q is none of all, %s", n, strings.Join(known, ", "))
		}
	}
	var chosen []T
	for i, one := range all {
		if slices.Contains(names, "all") || slices.Contains(names, known[i]) {
			chosen = append(chosen, one)
		}
	}
	return chosen, nil
}
