package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"

	"github.com/certmill/certmill/ca"
	"github.com/certmill/certmill/internal/server"
	"github.com/certmill/certmill/issuer"
)

// plant opens the plant for the AWS side: through the admin socket of serve; certificates are found without one too.
func (e *env) plant(context.Context) (plantAccess, error) { return adminPlant{e}, nil }

// adminPlant asks at the admin door, anew for each question: what it asks is rare.
type adminPlant struct{ e *env }

// CACertificates gives the certificates of the CAs that a fleet file names.
func (p adminPlant) CACertificates(ctx context.Context, names []string) (cas map[string]*x509.Certificate, err error) {
	err = p.e.admin(ctx, reads, func(ctx context.Context, a *server.AdminClient) error {
		cas, err = caCertificates(ctx, a, names)
		return err
	})
	return cas, err
}

// caCertificates finds the CAs that a fleet file names and lets through those that sign devices. Whatever else a registered CA has signed,
// a station's certificate among it, AWS would make a thing of: so never the plant CA's.
func caCertificates(ctx context.Context, admin *server.AdminClient, names []string) (map[string]*x509.Certificate, error) {
	records, err := admin.CAs(ctx)
	if err != nil {
		return nil, problemError(err)
	}
	cas := make(map[string]*x509.Certificate)
	for _, name := range names {
		i := slices.IndexFunc(records, func(r issuer.CARecord) bool { return r.Name == name })
		if i < 0 {
			return nil, fail(exitConfig, "certmill ca list shows the CAs of this plant", "the fleet file names the CA %q, which is not in the ledger", name)
		}
		if role := records[i].Role; role != ca.RoleIssuing {
			return nil, fail(exitConfig, "name the CA that signs devices: certmill ca list", "the fleet file names the CA %q, whose role is %s: AWS would make a thing of whatever it has signed", name, role)
		}
		if cas[name], err = x509.ParseCertificate(records[i].Certificate); err != nil {
			return nil, fmt.Errorf("certificate of CA %s: %w", name, err)
		}
	}
	return cas, nil
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
