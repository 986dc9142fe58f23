package main

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/aws/aws-lambda-go/events"

	"github.com/certmill/certmill/registrar/jitr"
)

// newRows gives the keys of the rows that came into the allow-list, where the payload is a batch of the table's stream. A batch
// may have none: what the handler itself writes into a row comes along here too.
func newRows(payload []byte) (ids []string, batched bool) {
	var batch events.DynamoDBEvent
	if json.Unmarshal(payload, &batch) != nil || len(batch.Records) == 0 {
		return nil, false
	}
	for _, r := range batch.Records {
		id, keyed := r.Change.Keys["certificate_id"]
		if r.EventName != "INSERT" || !keyed || id.DataType() != events.DataTypeString {
			continue
		}
		ids = append(ids, id.String())
	}
	return ids, true
}

// arrived tries every row of the batch; an error has the whole batch come again, which is safe.
func arrived(ctx context.Context, h *jitr.Handler, ids []string) (last jitr.Outcome, err error) {
	last = jitr.Ignored
	for _, id := range ids {
		outcome, failed := h.RowArrived(ctx, id)
		h.Log.Info("row arrived", "certificate_id", id, "outcome", outcome, "err", failed)
		last, err = outcome, errors.Join(err, failed)
	}
	return last, err
}
