package main

import (
	"context"
	"fmt"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// update carries out the statements of an update command one by one. Given several,
// FerretDB ignores "ordered", stops at the first error without saying which it was,
// and numbers what it upserted wrongly.
func (c *conn) update(ctx context.Context, request message) (message, error) {
	body, err := request.body()
	if err != nil {
		return nil, err
	}
	common, statements, err := splitUpdate(request, body)
	if err != nil {
		return newMessage(request.requestID(), protocolError(err.Error())), nil
	}
	if len(statements) <= 1 {
		return c.updateOne(ctx, request)
	}

	ordered := true
	if value, ok := body.Lookup("ordered").BooleanOK(); ok {
		ordered = value
	}
	var total updateResult
	for i, statement := range statements {
		single, err := bson.Marshal(append(common[:len(common):len(common)], bson.E{Key: "updates", Value: bson.A{statement}}))
		if err != nil {
			return nil, err
		}
		reply, err := c.updateOne(ctx, newMessage(0, single))
		if err != nil {
			return nil, err
		}
		var result updateResult
		if err := reply.decode(&result); err != nil {
			return nil, fmt.Errorf("%w: %w", errBackend, err)
		}
		if result.OK != 1 && i == 0 {
			reply.setResponseTo(request.requestID())
			return reply, nil
		}
		total.add(int32(i), result)
		if ordered && len(total.WriteErrors) > 0 {
			break
		}
	}
	total.OK = 1
	merged, err := bson.Marshal(total)
	if err != nil {
		return nil, err
	}
	return newMessage(request.requestID(), merged), nil
}

// updateOne passes on an update of one statement. Where it breaks a unique index,
// FerretDB reports an internal error.
func (c *conn) updateOne(ctx context.Context, request message) (message, error) {
	reply, err := c.relay(ctx, request)
	if err != nil || !isUniqueViolation(reply) {
		return reply, err
	}
	duplicate, err := bson.Marshal(updateResult{OK: 1, WriteErrors: []writeError{{Code: duplicateKey, Message: duplicateKeyMessage}}})
	if err != nil {
		return nil, err
	}
	return newMessage(request.requestID(), duplicate), nil
}

// findAndModify does for its command what updateOne does for an update.
func (c *conn) findAndModify(ctx context.Context, request message) (message, error) {
	reply, err := c.relay(ctx, request)
	if err != nil || !isUniqueViolation(reply) {
		return reply, err
	}
	return newMessage(request.requestID(), errorBody(duplicateKey, "DuplicateKey", duplicateKeyMessage)), nil
}

const (
	duplicateKey        = 11000
	duplicateKeyMessage = "E11000 duplicate key error"
)

func isUniqueViolation(reply message) bool {
	var failed struct {
		Message string `bson:"errmsg"`
	}
	return reply.decode(&failed) == nil && strings.Contains(failed.Message, "UNIQUE constraint failed")
}

// updateResult is the reply to an update. A failed one has an error in place of the counts.
type updateResult struct {
	Matched     int32        `bson:"n"`
	Modified    int32        `bson:"nModified"`
	Upserted    []upserted   `bson:"upserted,omitempty"`
	WriteErrors []writeError `bson:"writeErrors,omitempty"`
	Code        int32        `bson:"code,omitempty"`
	Message     string       `bson:"errmsg,omitempty"`
	OK          float64      `bson:"ok"`
}

type upserted struct {
	Index int32         `bson:"index"`
	ID    bson.RawValue `bson:"_id"`
}

type writeError struct {
	Index   int32  `bson:"index"`
	Code    int32  `bson:"code"`
	Message string `bson:"errmsg"`
}

// add adds the result of the statement at index.
func (r *updateResult) add(index int32, one updateResult) {
	if one.OK != 1 {
		one.WriteErrors = []writeError{{Code: one.Code, Message: one.Message}}
	}
	r.Matched += one.Matched
	r.Modified += one.Modified
	for _, u := range one.Upserted {
		r.Upserted = append(r.Upserted, upserted{index, u.ID})
	}
	for _, e := range one.WriteErrors {
		r.WriteErrors = append(r.WriteErrors, writeError{index, e.Code, e.Message})
	}
}

// splitUpdate returns the statements of an update, undecoded, and what they share.
// The statements are in a section of their own, or in an array in the body.
func splitUpdate(request message, body bson.Raw) (common bson.D, statements []bson.Raw, err error) {
	elements, err := body.Elements()
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errMalformed, err)
	}
	for _, element := range elements {
		if element.Key() != "updates" {
			common = append(common, bson.E{Key: element.Key(), Value: element.Value()})
			continue
		}
		if err := element.Value().Unmarshal(&statements); err != nil {
			return nil, nil, fmt.Errorf("%w: %w", errMalformed, err)
		}
	}
	for rest := request.section("updates"); len(rest) > 0; {
		statement, err := sized(rest)
		if err != nil {
			return nil, nil, err
		}
		statements = append(statements, statement)
		rest = rest[len(statement):]
	}
	return common, statements, nil
}
