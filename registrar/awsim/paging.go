package awsim

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"time"
)

const (
	pageDefault = 25
	pageMax     = 250
)

// ageKey keys a second order of a table: its rows by the time they were made, so that lists are read page by page, newest
// first, without sorting a hundred thousand (CA-72).
func ageKey(made time.Time, id string) string { return fmt.Sprintf("%016x/%s", made.UnixMicro(), id) }

// paging reads size, marker and order as a list's request has them in its query.
func (c *call) paging(size, marker string) (span, error) {
	s := span{limit: pageDefault}
	if v := c.query(size); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 || n > pageMax {
			return s, invalidRequest("Value at '%s' failed to satisfy constraint: must be between 1 and %d", size, pageMax)
		}
		s.limit = n
	}
	after, err := base64.RawURLEncoding.DecodeString(c.query(marker))
	if err != nil || len(after) > 1024 {
		return s, invalidRequest("Value at '%s' is not a marker that was given out", marker)
	}
	s.after = string(after)
	return s, nil
}

// oldestFirst turns the default order of lists of certificates round where the request says so.
func (c *call) oldestFirst(s span) (span, error) {
	ascending, err := c.flag("isAscendingOrder")
	s.descending = !ascending
	return s, err
}

// page reads one page and the marker of the next, which is absent at the end.
func page[T any](tx *tx, t table[T], s span, next string, each func(*T) (any, error)) (items []any, answer object, err error) {
	rows, more, err := t.rows(tx, s)
	if err != nil {
		return nil, nil, err
	}
	items = make([]any, 0, len(rows))
	for _, r := range rows {
		item, err := each(r.value)
		if err != nil {
			return nil, nil, err
		}
		if item != nil {
			items = append(items, item)
		}
	}
	answer = object{}
	if more {
		answer[next] = base64.RawURLEncoding.EncodeToString([]byte(rows[len(rows)-1].key))
	}
	return items, answer, nil
}
