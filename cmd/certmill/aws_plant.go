package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"

	"github.com/certmill/certmill/internal/server"
)

// plant opens the plant for the AWS side: through the admin socket of serve; certificates are found without one too.
func (e *env) plant(context.Context) (plantAccess, error) { return adminPlant{e}, nil }

// adminPlant asks at the admin door, anew for each question: what it asks is rare.
type adminPlant struct{ e *env }

// CACertificate gives a CA's certificate by its name.
func (p adminPlant) CACertificate(ctx context.Context, name string) (cert *x509.Certificate, err error) {
	err = p.e.admin(ctx, reads, func(ctx context.Context, a *server.AdminClient) error {
		chain, err := a.Chain(ctx, name)
		if err != nil {
			return err
		}
		first, _ := pem.Decode(chain)
		if first == nil {
			return fail(exitStorage, "", "CA %s has no certificate", name)
		}
		cert, err = x509.ParseCertificate(first.Bytes)
		return err
	})
	return cert, err
}

// Prove has serve sign: the key's token is open there, and the uid that serve admits is the approval.
func (p adminPlant) Prove(ctx context.Context, ca, account, region, code string) (proof []byte, err error) {
	serveOnly := false
	err = p.e.admin(ctx, access{mode: forSigning, offline: &serveOnly}, func(ctx context.Context, a *server.AdminClient) error {
		proof, err = a.Prove(ctx, ca, account, region, code)
		return err
	})
	return proof, err
}

// Close does nothing: nothing stays open between questions.
func (adminPlant) Close() error { return nil }
