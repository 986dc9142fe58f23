package ca

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/certmill/certmill/ca/lint"
)

// Roles of a CA in the hierarchy.
const (
	RoleRoot    = "root"    // signs issuing CAs, offline where the plant wants it
	RoleIssuing = "issuing" // signs devices and AWS proofs; AWS IoT registers it
	RolePlant   = "plant"   // signs stations and the service's own TLS; self-signed, never registered
)

// CeremonyPrefix begins the serials of CA certificates. They are made at ceremonies, where no ledger allots prefixes; those that
// the ledger allots are smaller.
const CeremonyPrefix uint16 = 0x7fff

// HierarchyConfig describes a CA certificate to be made at a ceremony.
type HierarchyConfig struct {
	Name         string // ledger name: root, issuing, plant
	Role         string // RoleRoot, RoleIssuing or RolePlant
	CommonName   string // "Demo Issuing"; the generation is added: "Demo Issuing G1"
	Organization string
	Country      string // "" or two capital letters
	Generation   int    // from 1
	NotAfter     time.Time
	IssueUntil   time.Time // zero: NotAfter
}

// roleRules are what each role is made of.
type roleRules struct {
	key        string // kind of key
	pathLen    uint8
	selfSigned bool
}

func rulesOf(role string) (roleRules, bool) {
	r, ok := map[string]roleRules{
		RoleRoot:    {keyP384, 1, true},
		RoleIssuing: {keyP256, 0, false},
		RolePlant:   {keyP256, 0, true},
	}[role]
	return r, ok
}

// PrepareCA makes the TBS of a CA certificate (root P-384 pathLen 1, issuing and plant P-256 pathLen 0; keyCertSign, cRLSign; SKI, AKI),
// and lints it. issuer nil: self-signed. Pure. It is signed by SignCA, with the issuer's key or its own.
func PrepareCA(cfg HierarchyConfig, pub crypto.PublicKey, issuer *x509.Certificate, s Serial, now time.Time) (*Prepared, error) {
	rules, known := rulesOf(cfg.Role)
	if !known {
		return nil, fmt.Errorf("role %q: want root, issuing or plant", cfg.Role)
	}
	if rules.selfSigned != (issuer == nil) {
		return nil, fmt.Errorf("a %s CA is self-signed: %t", cfg.Role, rules.selfSigned)
	}
	key, err := newPublicKey(pub)
	if err != nil {
		return nil, err
	}
	if key.kind != rules.key {
		return nil, fmt.Errorf("%w: a %s CA has a %s key, this is %s", ErrWeakKey, cfg.Role, rules.key, key.kind)
	}
	subject, err := cfg.subject()
	if err != nil {
		return nil, err
	}
	now = now.UTC().Truncate(time.Second)
	if err := cfg.checkTimes(issuer, now); err != nil {
		return nil, err
	}
	t := template{
		serial: s, notBefore: now, notAfter: cfg.NotAfter.UTC(), subject: subject, key: key,
		keyUsage: usageCertSign | usageCRLSign, isCA: true, pathLen: rules.pathLen,
	}
	if err := t.signedBy(issuer); err != nil {
		return nil, err
	}
	tbs, err := t.encode()
	if err != nil {
		return nil, fmt.Errorf("encode TBS: %w", err)
	}
	return RedeemCA(tbs)
}

// subject is C, O and the common name with its generation.
func (c HierarchyConfig) subject() ([]subjectAttribute, error) {
	if c.Generation < 1 {
		return nil, fmt.Errorf("generation %d: they count from 1", c.Generation)
	}
	if c.CommonName == "" {
		return nil, errors.New("common_name is missing")
	}
	return staticSubject(SubjectConfig{Country: c.Country, Organization: c.Organization, CommonName: fmt.Sprintf("%s G%d", c.CommonName, c.Generation)})
}

// staticSubject is a subject without placeholders.
func staticSubject(c SubjectConfig) (all []subjectAttribute, err error) {
	for _, f := range subjectFields() {
		text := c.value(f.name)
		if text == "" {
			continue
		}
		if err := f.check(text); err != nil {
			return nil, err
		}
		all = append(all, subjectAttribute{f.oid, text, f.printable || allPrintable(text)})
	}
	return all, nil
}

func (c HierarchyConfig) checkTimes(issuer *x509.Certificate, now time.Time) error {
	switch {
	case !c.NotAfter.After(now) || c.NotAfter.Nanosecond() != 0:
		return fmt.Errorf("not_after %s is not a whole second to come", c.NotAfter.Format(time.RFC3339))
	case c.IssueUntil.After(c.NotAfter) || !c.IssueUntil.IsZero() && !c.IssueUntil.After(now):
		return fmt.Errorf("issue_until %s is not between now and the CA's end", c.IssueUntil.Format(time.RFC3339))
	case issuer != nil && c.NotAfter.After(issuer.NotAfter):
		return fmt.Errorf("not_after %s is after the issuer's end, %s", c.NotAfter.Format(time.RFC3339), issuer.NotAfter.Format(time.RFC3339))
	}
	return nil
}

// signedBy fills in what comes from the issuer, or from the certificate itself.
func (t *template) signedBy(issuer *x509.Certificate) (err error) {
	if issuer == nil {
		t.issuer, t.issuerKeyID = encodeName(t.subject), t.key.id
		t.algorithm, err = signatureAlgorithm(t.key.key)
		return err
	}
	switch {
	case !issuer.IsCA || !issuer.BasicConstraintsValid || issuer.KeyUsage&x509.KeyUsageCertSign == 0 || len(issuer.SubjectKeyId) == 0:
		return errors.New("the issuer's certificate is not one of a CA")
	case issuer.MaxPathLen == 0:
		return errors.New("the issuer's path length is 0: it signs no CA (RFC 5280 4.2.1.9)")
	case bytes.Equal(issuer.RawSubject, encodeName(t.subject)):
		return errors.New("the CA has the same subject as its issuer")
	}
	t.issuer, t.issuerKeyID = issuer.RawSubject, issuer.SubjectKeyId
	t.algorithm, err = signatureAlgorithm(issuer.PublicKey)
	return err
}

// CeremonyPolicy is what the signer process shall demand at the ceremony that signs p, as bytes for it: CA certificates only, and none
// beyond the issuer's end (the end of p itself, where issuer is nil and p self-signed).
func CeremonyPolicy(p *Prepared, issuer *x509.Certificate) ([]byte, error) {
	policy := Policy{Issuer: p.parsed.issuer, Kinds: []string{KindCA}, SerialPrefix: CeremonyPrefix, NotAfter: p.NotAfter()}
	if issuer != nil {
		policy.Issuer, policy.NotAfter = issuer.RawSubject, issuer.NotAfter
	}
	return json.Marshal(policy)
}

// RedeemCA makes a Prepared of the TBS of a CA certificate that a ceremony's transcript holds. It checks and lints it again.
func RedeemCA(tbs []byte) (*Prepared, error) {
	parsed, err := parseTBS(tbs)
	if err != nil {
		return nil, err
	}
	p := Policy{Issuer: parsed.issuer, Kinds: []string{KindCA}, SerialPrefix: CeremonyPrefix, NotAfter: parsed.notAfter}
	if err := p.check(KindCA, parsed); err != nil {
		return nil, err
	}
	linter, err := lint.New()
	if err != nil {
		return nil, err
	}
	if err := lintTBS(linter, KindCA, tbs, parsed.algorithm); err != nil {
		return nil, err
	}
	return &Prepared{kind: KindCA, tbs: tbs, parsed: parsed}, nil
}
