package ca

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"
)

// Prepared is a TBS that was validated and linted. Authority.Sign or SignCA redeems it once. Safe for concurrent use.
type Prepared struct {
	kind     string
	tbs      []byte
	parsed   *parsedTBS
	by       *Authority  // nil for a CA certificate
	redeemed atomic.Bool // true while it is being signed and once it was
}

// Kind is what the signer process will judge it as.
func (p *Prepared) Kind() string { return p.kind }

// TBS is the DER TBSCertificate: what is recorded, and what is signed. The caller must not change it.
func (p *Prepared) TBS() []byte { return p.tbs }

// Serial is the serial number in the TBS.
func (p *Prepared) Serial() Serial { return p.parsed.serial }

// NotBefore is the begin of validity, UTC.
func (p *Prepared) NotBefore() time.Time { return p.parsed.notBefore }

// NotAfter is the end of validity, UTC.
func (p *Prepared) NotAfter() time.Time { return p.parsed.notAfter }

var errRedeemed = errors.New("this TBS was signed already, or is being signed")

// sign redeems those of batch that are free and of one kind.
func sign(ctx context.Context, s Signer, batch []*Prepared) (sigs [][]byte, errs []error) {
	sigs, errs = make([][]byte, len(batch)), make([]error, len(batch))
	var tbs [][]byte
	var places []int
	for i, p := range batch {
		switch {
		case p.kind != batch[0].kind:
			errs[i] = fmt.Errorf("a batch is of one kind: %s stands among %s", p.kind, batch[0].kind)
		case !p.redeemed.CompareAndSwap(false, true):
			errs[i] = errRedeemed
		default:
			tbs, places = append(tbs, p.tbs), append(places, i)
		}
	}
	if len(tbs) == 0 {
		return sigs, errs
	}
	made, failed := s.Sign(ctx, batch[0].kind, tbs)
	for n, i := range places {
		sigs[i], errs[i] = made[n], failed[n]
		if failed[n] != nil {
			batch[i].redeemed.Store(false)
		}
	}
	return sigs, errs
}

// SignCA signs a CA certificate that PrepareCA or RedeemCA prepared, at a ceremony.
func SignCA(ctx context.Context, s Signer, p *Prepared) ([]byte, error) {
	if p.kind != KindCA {
		return nil, fmt.Errorf("%s is for the authority that prepared it", p.kind)
	}
	sigs, errs := sign(ctx, s, []*Prepared{p})
	return sigs[0], errs[0]
}

// Sign signs a batch of one kind; result i belongs to batch[i]; a Prepared signs once (an error says so the second time, unless its first try failed).
func (a *Authority) Sign(ctx context.Context, batch []*Prepared) (sigs [][]byte, errs []error) {
	foreign := func(p *Prepared) bool { return p.by != a }
	if slices.ContainsFunc(batch, foreign) {
		sigs, errs = make([][]byte, len(batch)), make([]error, len(batch))
		for i := range errs {
			errs[i] = fmt.Errorf("batch for CA %s holds what another CA prepared", a.Name())
		}
		return sigs, errs
	}
	return sign(ctx, a.config.Signer, batch)
}
