package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// maxInspect is the largest file inspect reads.
const maxInspect = 4 << 20

func newInspectCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "inspect FILE|-",
		Short: "What is it: CSR, certificate, chain, CRL, key or PKCS#12",
		Long: "Tells what a file holds, PEM or DER, one block after another, with what matters to a factory: subject, issuer, serial, validity,\n" +
			"key, the id that AWS IoT gives the certificate, and whether a CSR proves possession of its key. Private keys are named, never shown.",
		Example: "  certmill inspect demo/devices/DEMO-000001/chain.pem\n  openssl req -new … | certmill inspect -",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			data, err := e.readInput(args[0], maxInspect)
			if err != nil {
				return err
			}
			found, err := inspect(data)
			if err != nil {
				return fail(exitVerify, "certmill reads PEM and DER: certificates, CSRs, CRLs, keys, PKCS#12", "%s: %w", args[0], err)
			}
			if e.output != asTable {
				return printList(e, found, "", nil)
			}
			return e.printOne(nil, describe(found))
		},
	}
}

// object is one thing found in a file.
type object struct {
	Type          string     `json:"type"` // certificate, csr, crl, private-key, public-key, pkcs12
	Subject       string     `json:"subject,omitempty"`
	Issuer        string     `json:"issuer,omitempty"`
	Serial        string     `json:"serial,omitempty"`
	CertificateID string     `json:"certificate_id,omitempty"` // SHA-256 of the DER: the id AWS IoT uses
	Key           string     `json:"key,omitempty"`
	NotBefore     *time.Time `json:"not_before,omitempty"`
	NotAfter      *time.Time `json:"not_after,omitempty"` // of a CRL: next update
	CA            bool       `json:"ca,omitempty"`
	Note          string     `json:"note,omitempty"`
}

// inspect recognises every object in data.
func inspect(data []byte) ([]object, error) {
	if !bytes.Contains(data, []byte("-----BEGIN ")) {
		o, err := inspectDER(data)
		return []object{o}, err
	}
	var found []object
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		o, err := inspectBlock(block)
		if err != nil {
			return nil, fmt.Errorf("block %d (%s): %w", len(found)+1, block.Type, err)
		}
		found = append(found, o)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("looks like PEM, but no block can be decoded")
	}
	return found, nil
}

func inspectBlock(b *pem.Block) (object, error) {
	if strings.HasSuffix(b.Type, "PRIVATE KEY") { // an encrypted one too
		return object{Type: "private-key", Note: b.Type + ", not shown"}, nil
	}
	return inspectDER(b.Bytes)
}

func inspectDER(der []byte) (object, error) {
	if c, err := x509.ParseCertificate(der); err == nil {
		return inspectCertificate(c), nil
	}
	if r, err := x509.ParseCertificateRequest(der); err == nil {
		note := "the signature proves possession of the key"
		if err := r.CheckSignature(); err != nil {
			note = "the signature does NOT verify: " + err.Error()
		}
		return object{Type: "csr", Subject: r.Subject.String(), Key: keyText(r.PublicKey), Note: note}, nil
	}
	if l, err := x509.ParseRevocationList(der); err == nil {
		return object{Type: "crl", Issuer: l.Issuer.String(), NotBefore: &l.ThisUpdate, NotAfter: &l.NextUpdate,
			Note: fmt.Sprintf("number %v, %d revoked", l.Number, len(l.RevokedCertificateEntries))}, nil
	}
	if pub, err := x509.ParsePKIXPublicKey(der); err == nil {
		return object{Type: "public-key", Key: keyText(pub)}, nil
	}
	if isPrivateKey(der) {
		return object{Type: "private-key", Note: "not shown"}, nil
	}
	if isPKCS12(der) {
		return object{Type: "pkcs12", Note: "its content needs its password: openssl pkcs12 -info -in FILE"}, nil
	}
	return object{}, fmt.Errorf("%d bytes that are nothing this command knows", len(der))
}

func inspectCertificate(c *x509.Certificate) object {
	id := sha256.Sum256(c.Raw)
	o := object{Type: "certificate", Subject: c.Subject.String(), Issuer: c.Issuer.String(), Serial: hex.EncodeToString(c.SerialNumber.Bytes()),
		CertificateID: hex.EncodeToString(id[:]), Key: keyText(c.PublicKey), NotBefore: &c.NotBefore, NotAfter: &c.NotAfter, CA: c.IsCA}
	if c.IsCA && c.CheckSignatureFrom(c) == nil {
		o.Note = "self-signed"
	}
	return o
}

func isPrivateKey(der []byte) bool {
	_, pkcs8 := x509.ParsePKCS8PrivateKey(der)
	_, ec := x509.ParseECPrivateKey(der)
	_, rsa := x509.ParsePKCS1PrivateKey(der)
	return pkcs8 == nil || ec == nil || rsa == nil
}

// isPKCS12 recognises a PFX (RFC 7292 section 4): version 3 and a ContentInfo.
func isPKCS12(der []byte) bool {
	var pfx struct {
		Version  int
		AuthSafe asn1.RawValue
		MAC      asn1.RawValue `asn1:"optional"`
	}
	rest, err := asn1.Unmarshal(der, &pfx)
	return err == nil && len(rest) == 0 && pfx.Version == 3
}

func keyText(pub any) string {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		return "EC " + k.Curve.Params().Name
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", k.N.BitLen())
	}
	return fmt.Sprintf("%T", pub)
}

// describe writes what inspect found for people.
func describe(found []object) string {
	var b strings.Builder
	for i, o := range found {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%s\n", o.Type)
		for _, line := range [][2]string{{"subject", o.Subject}, {"issuer", o.Issuer}, {"serial", o.Serial}, {"AWS id", o.CertificateID},
			{"key", o.Key}, {"valid", span(o.NotBefore, o.NotAfter)}, {"note", o.Note}} {
			if line[1] != "" {
				fmt.Fprintf(&b, "  %-8s %s\n", line[0], line[1])
			}
		}
	}
	return b.String()
}

func span(from, to *time.Time) string {
	if from == nil || to == nil {
		return ""
	}
	return from.UTC().Format(time.RFC3339) + " to " + to.UTC().Format(time.RFC3339)
}
