package awsim

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"

	"github.com/certmill/certmill/registrar/jitr"
)

// allowItems are the tables of JITR's allow-lists: place/table/certificate id → item. Every table is there.
const allowItems table[item] = "allow-list"

func allowKey(at place, table, id string) string { return at.key(table + "/" + id) }

// putRow stores a line of a manifest; a row that is there keeps who used it and whether it is denied, so that the manifest can be sent
// again: it knows nothing of either.
func putRow(tx *tx, at place, table string, line map[string]any) error {
	row := itemOf(line)
	id, err := row.id()
	if err != nil {
		return err
	}
	there, err := allowItems.get(tx, allowKey(at, table, id))
	if err != nil {
		return err
	}
	for _, name := range []string{"used_by", "denied"} {
		if _, said := row[name]; said || there == nil {
			continue
		}
		if v, ok := (*there)[name]; ok {
			row[name] = v
		}
	}
	return allowItems.put(tx, allowKey(at, table, id), &row)
}

// Bounds of a manifest that is read line by line.
const (
	maxLine   = 64 << 10 // bytes
	batchRows = 1000     // in one transaction
)

// fill reads a manifest into a table and gives the number of rows. What was read before an error is kept: send it again.
func (s *Sim) fill(ctx context.Context, r io.Reader, at place, table string) (n int, err error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, maxLine), maxLine)
	batch := make([]map[string]any, 0, batchRows)
	flush := func() error {
		err := s.store.update(func(tx *tx) error {
			for _, row := range batch {
				if err := putRow(tx, at, table, row); err != nil {
					return err
				}
			}
			return nil
		})
		if err == nil {
			n += len(batch)
		}
		batch = batch[:0]
		return err
	}
	for line := 1; lines.Scan(); line++ {
		if len(lines.Bytes()) == 0 {
			continue
		}
		var row map[string]any
		if err := json.Unmarshal(lines.Bytes(), &row); err != nil {
			err = errors.Join(flush(), fmt.Errorf("line %d: %w", line, err))
			return n, err
		}
		if batch = append(batch, row); len(batch) < batchRows {
			continue
		}
		if err := errors.Join(flush(), ctx.Err()); err != nil {
			return n, err
		}
	}
	err = errors.Join(flush(), lines.Err())
	return n, err
}

// lambdaList is the allow-list as a function in this place sees it.
type lambdaList struct {
	store *store
	at    place
	table string
}

func (l lambdaList) Look(_ context.Context, id string) (row jitr.Row, err error) {
	err = l.store.view(func(tx *tx) error {
		there, err := allowItems.get(tx, allowKey(l.at, l.table, id))
		if err != nil {
			return err
		}
		if there == nil {
			return jitr.ErrNotFound
		}
		row, err = there.row()
		return err
	})
	return row, err
}

// MarkUsed is the conditional write of rule R-13.
func (l lambdaList) MarkUsed(_ context.Context, id, thing string) error {
	return l.store.update(func(tx *tx) error {
		key := allowKey(l.at, l.table, id)
		there, err := allowItems.get(tx, key)
		if err != nil {
			return err
		}
		if there == nil {
			return jitr.ErrNotFound
		}
		used := attribute{"S": thing}
		if have, ok := (*there)["used_by"]; ok && !have.equal(used) {
			return jitr.ErrConflict
		}
		(*there)["used_by"] = used
		return allowItems.put(tx, key, there)
	})
}

// lambdaIoT is AWS IoT as a function in this place sees it.
type lambdaIoT struct {
	store *store
	at    place
}

func (l lambdaIoT) DescribeCertificate(_ context.Context, id string) (out jitr.Certificate, err error) {
	err = l.store.view(func(tx *tx) error {
		cert, err := certificates.get(tx, l.at.key(id))
		if err != nil {
			return err
		}
		if cert == nil {
			return jitr.ErrNotFound
		}
		out = jitr.Certificate{ARN: l.at.arn("cert/" + id), CA: cert.CA, Status: cert.Status, Created: cert.Created}
		return nil
	})
	return out, err
}

func (l lambdaIoT) CreateThing(_ context.Context, name string, attributes map[string]string) error {
	return l.store.update(func(tx *tx) error {
		_, err := makeThing(tx, l.at, name, maps.Clone(attributes))
		return asHandler(err)
	})
}

func (l lambdaIoT) AttachThingPrincipal(_ context.Context, thing, arn string) error {
	return l.store.update(func(tx *tx) error {
		id, err := l.at.principalID(arn)
		if err != nil {
			return err
		}
		return attachThing(tx, l.at, thing, id, "")
	})
}

func (l lambdaIoT) AttachPolicy(_ context.Context, name, arn string) error {
	return l.store.update(func(tx *tx) error {
		id, err := l.at.principalID(arn)
		if err != nil {
			return err
		}
		return attachExisting(tx, l.at, name, id)
	})
}

func (l lambdaIoT) UpdateCertificate(_ context.Context, id, status string) error {
	return l.store.update(func(tx *tx) error {
		cert, err := certificates.get(tx, l.at.key(id))
		if err != nil {
			return err
		}
		if cert == nil {
			return jitr.ErrNotFound
		}
		if err := cert.become(status, tx.now); err != nil {
			return asHandler(err)
		}
		return certificates.put(tx, l.at.key(id), cert)
	})
}

// asHandler gives AWS's errors the names that the handler branches on.
func asHandler(err error) error {
	var e *apiError
	if !errors.As(err, &e) {
		return err
	}
	switch e.code {
	case "ResourceAlreadyExistsException":
		return errors.Join(jitr.ErrConflict, err)
	case "CertificateStateException":
		return errors.Join(jitr.ErrState, err)
	}
	return err
}
