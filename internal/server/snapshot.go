package server

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/certmill/certmill/internal/ledger"
)

// headerStoreSize says how many octets a snapshot has.
const headerStoreSize = "Certmill-Store-Size"

// snapshot sends the store as it is now, while the service goes on. It holds no keys: those stand in a file that never passes here. Whoever is slow to read it makes
// the store's file grow meanwhile; the deadline of each piece bounds that.
func (c *call) snapshot() error {
	return c.s.Ledger.View(func(v *ledger.View) error {
		h := c.w.Header()
		h.Set("Content-Type", "application/octet-stream")
		h.Set(headerStoreSize, strconv.FormatInt(v.StoreSize(), 10))
		_, err := v.WriteTo(c.w)
		return err
	})
}

// Snapshot is a copy of the store on its way. Read all of it, then Close it.
type Snapshot struct {
	io.ReadCloser
	Size int64 // what is shorter was cut off
}

// Snapshot asks for a copy of the store as it is now.
func (a *AdminClient) Snapshot(ctx context.Context) (*Snapshot, error) {
	res, err := a.do(ctx, http.MethodGet, "/store/snapshot", nil)
	if err != nil {
		return nil, err
	}
	size, err := strconv.ParseInt(res.Header.Get(headerStoreSize), 10, 64)
	if err != nil {
		res.Body.Close()
		return nil, fmt.Errorf("snapshot without a size: %w", err)
	}
	return &Snapshot{res.Body, size}, nil
}
