package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// AuthorityConfig describes one CA that signs end-entity certificates.
type AuthorityConfig struct {
	Name        string // 1 to 64 of a-z, 0-9, -, . and _; stands in the URLs of its certificates
	Certificate *x509.Certificate
	Prefix      uint16    // of its serials, allotted when the ledger adopted it
	IssueUntil  time.Time // no certificate is prepared after it; zero: the certificate's end
	Signer      Signer
	PublicURL   string    // base of AIA and CRL distribution points; "" leaves them out
	Allowance   Allowance // what its signer lets devices carry: Allow of the profiles; none: plain device certificates
}

// Authority prepares and signs. Safe for concurrent use.
type Authority struct {
	config    AuthorityConfig
	algorithm oid
	links     links
	policy    Policy // what its own signer will demand, as far as it can be known here
	linted    *lintedStructures
}

// NewAuthority checks that the certificate is one of a CA that may sign, and that the rest goes with it.
func NewAuthority(cfg AuthorityConfig) (*Authority, error) {
	c := cfg.Certificate
	switch {
	case !isName(cfg.Name):
		return nil, fmt.Errorf("CA name %q: want 1 to 64 of a-z, 0-9, -, . and _", cfg.Name)
	case cfg.Signer == nil || c == nil:
		return nil, errors.New("certificate or signer is missing")
	case !c.BasicConstraintsValid || !c.IsCA || c.KeyUsage&x509.KeyUsageCertSign == 0:
		return nil, errors.New("its certificate is not one of a CA that signs certificates (RFC 5280 4.2.1.3, 4.2.1.9)")
	case len(c.SubjectKeyId) == 0:
		return nil, errors.New("its certificate has no subject key identifier (RFC 5280 4.2.1.2)")
	case !validPrefix(cfg.Prefix):
		return nil, fmt.Errorf("serial prefix %#04x is not within 0x0100 and 0x7fff", cfg.Prefix)
	case cfg.IssueUntil.After(c.NotAfter):
		return nil, fmt.Errorf("issue_until %s is after its end %s", cfg.IssueUntil.Format(time.RFC3339), c.NotAfter.Format(time.RFC3339))
	}
	if cfg.IssueUntil.IsZero() {
		cfg.IssueUntil = c.NotAfter
	}
	algorithm, err := signatureAlgorithm(c.PublicKey)
	if err != nil {
		return nil, err
	}
	l, err := newLinks(cfg.PublicURL, cfg.Name)
	if err != nil {
		return nil, err
	}
	p := Policy{Issuer: c.RawSubject, Kinds: []string{KindDevice, KindStation, KindService, KindProof}, SerialPrefix: cfg.Prefix, NotAfter: c.NotAfter,
		Devices: cfg.Allowance}
	if p.devices, err = cfg.Allowance.compile(); err != nil {
		return nil, err
	}
	return &Authority{config: cfg, algorithm: algorithm, links: l, policy: p, linted: newLintedStructures()}, nil
}

// signatureAlgorithm is what a CA key signs with: the hash is as strong as the key (RFC 5758, RFC 4055).
func signatureAlgorithm(key crypto.PublicKey) (oid, error) {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return oidECDSAWithSHA256, nil
		case elliptic.P384():
			return oidECDSAWithSHA384, nil
		}
	case *rsa.PublicKey:
		return oidSHA256WithRSA, nil
	}
	return "", fmt.Errorf("CA key of type %T: want P-256, P-384 or RSA", key)
}

// newLinks makes the URLs of a CA's certificates. They are http as RFC 5280 4.2.1.13 and 4.2.2.1 expect: what is behind them is signed.
func newLinks(base, name string) (links, error) {
	if base == "" {
		return links{}, nil
	}
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return links{}, fmt.Errorf("public_url %q: want http://host/path", base)
	}
	base = strings.TrimSuffix(u.String(), "/")
	if !isASCII([]byte(base)) {
		return links{}, fmt.Errorf("public_url %q holds more than ASCII", base)
	}
	return links{ocsp: base + "/ocsp/" + name, caIssuers: base + "/ca/" + name + ".cer", crl: base + "/crl/" + name + ".crl"}, nil
}

// Name is the CA's name in the ledger.
func (a *Authority) Name() string { return a.config.Name }

// Certificate is the CA's own.
func (a *Authority) Certificate() *x509.Certificate { return a.config.Certificate }

// Prefix begins every serial of this CA.
func (a *Authority) Prefix() uint16 { return a.config.Prefix }

// Issuance is everything a TBS is a function of, beside the authority.
type Issuance struct {
	Profile    *Profile
	Request    *Request
	DeviceID   string     // the {device_id} of the profile's subject; station name for KindStation
	Names      []string   // SAN of KindService: DNS names and IP literals
	Attributes Attributes // the {attribute.NAME} of the profile; nil where it names none
	Serial     Serial
	Now        time.Time
}

// Admits says whether the CA may sign what the profile describes at a time: ErrRefused where the profile wants another CA, the CA no
// longer issues, or its end comes before the certificates'. Prepare asks it too; asking early tells an officer before a line stands.
func (a *Authority) Admits(p *Profile, now time.Time) error {
	c := a.config.Certificate
	_, notAfter := p.validity.window(now, c.NotAfter)
	switch {
	case p.CA() != "" && p.CA() != a.Name():
		return fmt.Errorf("%w: profile %s wants CA %s, this is %s", ErrRefused, p.Name(), p.CA(), a.Name())
	case now.Before(c.NotBefore.Add(-maxAhead)):
		return fmt.Errorf("%w: CA %s is not valid before %s", ErrRefused, a.Name(), c.NotBefore.Format(time.RFC3339))
	case now.After(a.config.IssueUntil):
		return fmt.Errorf("%w: CA %s issues until %s", ErrRefused, a.Name(), a.config.IssueUntil.Format(time.RFC3339))
	case notAfter.After(c.NotAfter):
		return fmt.Errorf("%w: profile %s goes to %s, CA %s ends %s; not_after: ca means the CA's own end", ErrRefused,
			p.Name(), notAfter.Format(time.RFC3339), a.Name(), c.NotAfter.Format(time.RFC3339))
	case !notAfter.After(now):
		return fmt.Errorf("%w: profile %s ends %s, which is past", ErrRefused, p.Name(), notAfter.Format(time.RFC3339))
	}
	return nil
}

// Prepare makes the TBS: pure, deterministic. It compares it in structure with what was linted before, lints what differs,
// and refuses (ErrRefused) what may not be: validity past the CA's end or issue_until, 64 hex digits. ErrWeakKey: a key that the profile does not take.
func (a *Authority) Prepare(in Issuance) (*Prepared, error) {
	if in.Profile == nil || in.Request == nil {
		return nil, errors.New("prepare: profile or request is missing")
	}
	if err := a.Admits(in.Profile, in.Now); err != nil {
		return nil, err
	}
	if err := in.Profile.CheckKey(in.Request); err != nil {
		return nil, err
	}
	t, err := in.Profile.template(in)
	if err != nil {
		return nil, err
	}
	t.notBefore, t.notAfter = in.Profile.validity.window(in.Now, a.config.Certificate.NotAfter)
	t.links = a.links.without(in.Profile.omitted)
	return a.prepare(in.Profile.Kind(), t)
}

// template fills in what the profile and the request say.
func (p *Profile) template(in Issuance) (template, error) {
	if p.usesID() {
		if err := p.matchID(in.DeviceID); err != nil {
			return template{}, err
		}
	}
	if err := p.CheckAttributes(in.Attributes); err != nil {
		return template{}, err
	}
	with := values{in.DeviceID, in.Attributes}
	subject, err := render(p.subject, with)
	if err != nil {
		return template{}, err
	}
	if len(in.Names) > 0 && p.Kind() != KindService {
		return template{}, fmt.Errorf("%w: a %s certificate carries no names", ErrRefused, p.Kind())
	}
	names, err := p.names.join(in.Names)
	if err != nil {
		return template{}, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	if p.Kind() == KindService && names.count() == 0 {
		return template{}, fmt.Errorf("%w: a service certificate wants a name", ErrRefused)
	}
	for _, n := range p.altNames {
		if err := n.addTo(&names, with); err != nil {
			return template{}, err
		}
	}
	custom, err := renderCustom(p.extensions, with)
	if err != nil {
		return template{}, err
	}
	return template{
		serial: in.Serial, subject: subject, key: in.Request.publicKey,
		keyUsage: p.keyUsage, extKeyUsage: p.extKeyUsage, names: names, policies: p.policies, custom: custom,
	}, nil
}

// prepare completes a template with what this CA adds, and vets what comes out as the signer will.
func (a *Authority) prepare(kind string, t template) (*Prepared, error) {
	c := a.config.Certificate
	t.algorithm, t.issuer, t.issuerKeyID = a.algorithm, c.RawSubject, c.SubjectKeyId
	tbs, err := t.encode()
	if err != nil {
		return nil, fmt.Errorf("encode TBS: %w", err)
	}
	return a.Redeem(kind, tbs)
}

// Redeem makes a Prepared of a TBS that was recorded before: recovery after a crash. It checks it again (ErrRefused), but for its age:
// the signer process refuses what is older than seven days.
func (a *Authority) Redeem(kind string, tbs []byte) (*Prepared, error) {
	parsed, err := parseTBS(tbs)
	if err == nil {
		err = a.policy.check(kind, parsed)
	}
	if err == nil && parsed.algorithm != a.algorithm {
		err = fmt.Errorf("signature algorithm %s is not that of CA %s", parsed.algorithm, a.Name())
	}
	if err != nil {
		return nil, fmt.Errorf("%w: TBS: %w", ErrRefused, err)
	}
	if err := a.linted.check(kind, tbs, parsed); err != nil {
		return nil, err
	}
	return &Prepared{kind: kind, tbs: tbs, parsed: parsed, by: a}, nil
}
