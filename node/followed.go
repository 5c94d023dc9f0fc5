package node

import (
	"iter"
	"slices"

	"github.com/allsparkrt/allspark/envelope"
)

// maxFew is how many logs a connection follows without a map.
const maxFew = 8

// followed is what a connection follows: mostly its device, its user and a few
// sessions, for which a map would take more memory than they do. The zero followed
// is empty.
type followed struct {
	few  []*follow
	many map[envelope.Address]*follow // nil: few has them all
}

// of returns the place in a log; nil when it is not followed.
func (f *followed) of(log envelope.Address) *follow {
	if f.many != nil {
		return f.many[log]
	}
	for _, one := range f.few {
		if one.log == log {
			return one
		}
	}
	return nil
}

// add adds the place in a log that is not followed yet.
func (f *followed) add(one *follow) {
	switch {
	case f.many != nil:
		f.many[one.log] = one
	case len(f.few) < maxFew:
		f.few = append(f.few, one)
	default:
		f.many = make(map[envelope.Address]*follow, 2*maxFew)
		for _, other := range append(f.few, one) {
			f.many[other.log] = other
		}
		f.few = nil
	}
}

// remove takes out the place in a log and returns it; nil when there is none.
func (f *followed) remove(log envelope.Address) *follow {
	one := f.of(log)
	if one == nil {
		return nil
	}
	one.gone = true
	if delete(f.many, log); len(f.many) == 0 {
		f.many = nil
	}
	f.few = slices.DeleteFunc(f.few, func(other *follow) bool { return other == one })
	return one
}

func (f *followed) len() int { return len(f.few) + len(f.many) }

func (f *followed) all() iter.Seq[*follow] {
	return func(yield func(*follow) bool) {
		for _, one := range f.few {
			if !yield(one) {
				return
			}
		}
		for _, one := range f.many {
			if !yield(one) {
				return
			}
		}
	}
}
