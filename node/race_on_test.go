//go:build race

package node

// underRace: a [sync.Pool] forgets at random then.
const underRace = true
