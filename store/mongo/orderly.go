package mongo

import "context"

// catchingUp is how many lanes read at a time.
const catchingUp = 8

// orderly is a table that a limited number of lanes read at a time; the others
// wait. It is shared by the lanes of a store. Lanes read only when they do not
// know where they stand: after a start, after an error, before a refusal. Then
// all of them do, and a database that is late already would only become later by it.
type orderly struct {
	table
	reading chan struct{}
}

func (o orderly) find(ctx context.Context, log string, keys []string) (map[string]row, error) {
	if err := o.enter(ctx); err != nil {
		return nil, err
	}
	defer o.leave()
	return o.table.find(ctx, log, keys)
}

func (o orderly) tip(ctx context.Context, log string) (tip, error) {
	if err := o.enter(ctx); err != nil {
		return tip{}, err
	}
	defer o.leave()
	return o.table.tip(ctx, log)
}

func (o orderly) extent(ctx context.Context, log string) (extent, error) {
	if err := o.enter(ctx); err != nil {
		return extent{}, err
	}
	defer o.leave()
	return o.table.extent(ctx, log)
}

func (o orderly) enter(ctx context.Context) error {
	select {
	case o.reading <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (o orderly) leave() { <-o.reading }
