package ceremony

import (
	"bytes"
	"context"
	"crypto"
	"crypto/aes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/certmill/certmill/ca"
)

// Keys is the token, as a ceremony needs it.
type Keys interface {
	// Generate makes a key pair that never leaves the token. algorithm is p256 or p384. ErrKeyExists where the label is taken.
	Generate(ctx context.Context, label, algorithm string) (crypto.PublicKey, error)
	// Public returns the public half of the key with a label: ErrNoKey.
	Public(ctx context.Context, label string) (crypto.PublicKey, error)
	// Signer returns what signs with the key of a label. Signatures are verified with public; policy is a ca.Policy in JSON, which
	// the process that holds the key demands.
	Signer(ctx context.Context, label string, public crypto.PublicKey, policy []byte) (ca.Signer, error)
}

// Errors that Keys returns, wrapped or not.
var (
	ErrKeyExists = errors.New("a key with this label is in the token")
	ErrNoKey     = errors.New("no key with this label is in the token")
)

// ErrOtherFile is returned where the transcript belongs to another ceremony file.
var ErrOtherFile = errors.New("the transcript is of another ceremony file")

// Config is what a ceremony works with.
type Config struct {
	File       []byte           // the ceremony file, as it was reviewed
	Transcript string           // path; a file that is there is gone on with
	Keys       Keys             // the token that the file names
	Issuer     *Issuer          // role issuing: the CA that signs; else nil
	Now        func() time.Time // nil: time.Now
	Random     io.Reader        // nil: crypto/rand
}

// Issuer is the CA that signs another: its certificate, and the label of its key in the same token.
type Issuer struct {
	Name        string
	Certificate *x509.Certificate
	Label       string
}

// Result is what a ceremony has made.
type Result struct {
	File        *File
	Certificate []byte // DER
	NotAfter    time.Time
	IssueUntil  time.Time
	Transcript  string // hex SHA-256 of the transcript's file, which does not change any more
}

// Run performs the ceremony, or what is left of it, and returns what it made; run again when it is over, it returns the same.
// Everything that the file could be refused for is found before a key is made. One Run at a time on a transcript.
func Run(ctx context.Context, cfg Config) (Result, error) {
	return run(ctx, cfg, func(string) error { return nil })
}

// run is Run with points at which a test stops it.
func run(ctx context.Context, cfg Config, fault func(point string) error) (Result, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Random == nil {
		cfg.Random = rand.Reader
	}
	file, err := Parse(cfg.File)
	if err != nil {
		return Result{}, err
	}
	t, err := openTranscript(cfg.Transcript, fault)
	if err != nil {
		return Result{}, err
	}
	c := &ceremony{config: cfg, file: file, transcript: t, fault: fault}
	for _, step := range []func(context.Context) error{c.begin, c.announce, c.makeKey, c.intend, c.sign, c.end} {
		if err := step(ctx); err != nil {
			return Result{}, err
		}
	}
	return Result{
		File: file, Certificate: c.certificate, NotAfter: c.wanted.NotAfter, IssueUntil: c.wanted.IssueUntil, Transcript: t.sum(),
	}, nil
}

// ceremony is one run. Each step looks into the transcript first; what stands there is taken, not done again.
type ceremony struct {
	config     Config
	file       *File
	transcript *transcript
	fault      func(string) error

	wanted      ca.HierarchyConfig // since begin
	begun       time.Time          // since begin; notBefore
	public      crypto.PublicKey   // since makeKey
	prepared    *ca.Prepared       // since intend
	certificate []byte             // since sign
}

// begin checks the file against the clock and the issuer, with a throw-away key in the place of the one to be made.
func (c *ceremony) begin(context.Context) error {
	l, begun := c.transcript.at(stepBegin)
	if begun && l.File != string(c.config.File) {
		return fmt.Errorf("%w: %s", ErrOtherFile, c.config.Transcript)
	}
	c.begun = l.Time
	if !begun {
		c.begun = c.config.Now()
	}
	var err error
	if c.wanted, err = c.file.hierarchy(c.begun); err != nil {
		return err
	}
	if err := c.checkIssuer(); err != nil {
		return err
	}
	if begun {
		return nil
	}
	if err := c.rehearse(); err != nil {
		return err
	}
	return c.transcript.append(stepBegin, c.begun, line{File: string(c.config.File)})
}

func (c *ceremony) checkIssuer() error {
	switch i := c.config.Issuer; {
	case c.file.Issuer == "" && i != nil:
		return fmt.Errorf("a %s CA is self-signed, and an issuer was given", c.file.Role)
	case c.file.Issuer != "" && (i == nil || i.Name != c.file.Issuer):
		return fmt.Errorf("the file names the issuer %s, which was not given", c.file.Issuer)
	}
	return nil
}

func (c *ceremony) rehearse() error {
	curve := map[string]elliptic.Curve{"p256": elliptic.P256(), "p384": elliptic.P384()}[c.file.algorithm()]
	key, err := ecdsa.GenerateKey(curve, c.config.Random)
	if err != nil {
		return err
	}
	serial, err := newSerial(c.config.Random)
	if err != nil {
		return err
	}
	_, err = c.prepare(key.Public(), serial)
	return err
}

// prepare makes the TBS for a key.
func (c *ceremony) prepare(public crypto.PublicKey, serial ca.Serial) (*ca.Prepared, error) {
	return ca.PrepareCA(c.wanted, public, c.issuerCertificate(), serial, c.begun)
}

// newSerial draws a serial; its key is thrown away, since nobody needs to find a ceremony by it.
func newSerial(random io.Reader) (ca.Serial, error) {
	var r [24]byte
	if _, err := io.ReadFull(random, r[:]); err != nil {
		return ca.Serial{}, err
	}
	block, err := aes.NewCipher(r[:16])
	if err != nil {
		return ca.Serial{}, err
	}
	return ca.NewSerial(ca.CeremonyPrefix, 0, block, 0, [8]byte(r[16:])), nil
}

func (c *ceremony) issuerCertificate() *x509.Certificate {
	if c.config.Issuer == nil {
		return nil
	}
	return c.config.Issuer.Certificate
}

// announce records that a key will be made under a label that is free.
func (c *ceremony) announce(ctx context.Context) error {
	if _, done := c.transcript.at(stepMake); done {
		return nil
	}
	_, err := c.config.Keys.Public(ctx, c.file.Label)
	if err == nil {
		return fmt.Errorf("%w: %s; a ceremony makes its key itself", ErrKeyExists, c.file.Label)
	}
	if !errors.Is(err, ErrNoKey) {
		return fmt.Errorf("look for label %s: %w", c.file.Label, err)
	}
	return c.transcript.append(stepMake, c.config.Now(), line{Label: c.file.Label, Algorithm: c.file.algorithm()})
}

// makeKey generates the key, or finds the one that a run before generated and could not record.
func (c *ceremony) makeKey(ctx context.Context) (err error) {
	if l, done := c.transcript.at(stepKey); done {
		c.public, err = x509.ParsePKIXPublicKey(l.Public)
		return err
	}
	c.public, err = c.config.Keys.Public(ctx, c.file.Label)
	if errors.Is(err, ErrNoKey) {
		c.public, err = c.config.Keys.Generate(ctx, c.file.Label, c.file.algorithm())
	}
	if err != nil {
		return fmt.Errorf("key %s: %w", c.file.Label, err)
	}
	if err := c.fault("generated"); err != nil {
		return err
	}
	spki, err := x509.MarshalPKIXPublicKey(c.public)
	if err != nil {
		return err
	}
	return c.transcript.append(stepKey, c.config.Now(), line{Label: c.file.Label, Public: spki})
}

// intend records the exact bytes to be signed. They are a pure function of file, key, issuer, begin and serial: what stands in the
// transcript is made again and compared.
func (c *ceremony) intend(context.Context) error {
	l, done := c.transcript.at(stepIntent)
	if !done {
		serial, err := newSerial(c.config.Random)
		if err != nil {
			return err
		}
		if c.prepared, err = c.prepare(c.public, serial); err != nil {
			return err
		}
		return c.transcript.append(stepIntent, c.config.Now(), line{TBS: c.prepared.TBS()})
	}
	recorded, err := ca.RedeemCA(l.TBS)
	if err != nil {
		return fmt.Errorf("intent in the transcript: %w", err)
	}
	if c.prepared, err = c.prepare(c.public, recorded.Serial()); err != nil {
		return err
	}
	if !bytes.Equal(c.prepared.TBS(), l.TBS) {
		return errors.New("the intent in the transcript is not what file and key come to")
	}
	return nil
}

// sign makes the signature and records the certificate.
func (c *ceremony) sign(ctx context.Context) error {
	if l, done := c.transcript.at(stepSignature); done {
		c.certificate = l.Certificate
		return c.verify()
	}
	label, public := c.file.Label, c.public
	if i := c.config.Issuer; i != nil {
		label, public = i.Label, i.Certificate.PublicKey
	}
	policy, err := ca.CeremonyPolicy(c.prepared, c.issuerCertificate())
	if err != nil {
		return err
	}
	signer, err := c.config.Keys.Signer(ctx, label, public, policy)
	if err != nil {
		return fmt.Errorf("key %s: %w", label, err)
	}
	sig, err := ca.SignCA(ctx, signer, c.prepared)
	if err != nil {
		return fmt.Errorf("sign with key %s: %w", label, err)
	}
	if err := c.fault("signed"); err != nil {
		return err
	}
	if c.certificate, err = ca.Assemble(c.prepared.TBS(), sig); err != nil {
		return err
	}
	if err := c.verify(); err != nil {
		return err
	}
	return c.transcript.append(stepSignature, c.config.Now(), line{Certificate: c.certificate})
}

// verify checks the certificate by another road than the one that made it: crypto/x509 parses it, and verifies it with the issuer's key.
func (c *ceremony) verify() error {
	made, err := x509.ParseCertificate(c.certificate)
	if err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	if !bytes.Equal(made.RawTBSCertificate, c.prepared.TBS()) {
		return errors.New("the certificate is not of the TBS that was recorded")
	}
	issuer := made
	if c.config.Issuer != nil {
		issuer = c.config.Issuer.Certificate
	}
	if err := made.CheckSignatureFrom(issuer); err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	return nil
}

func (c *ceremony) end(context.Context) error {
	sum := hash(c.certificate)
	if l, done := c.transcript.at(stepEnd); done {
		if l.SHA256 != sum {
			return errors.New("the transcript ends with the hash of another certificate")
		}
		return nil
	}
	return c.transcript.append(stepEnd, c.config.Now(), line{SHA256: sum})
}
