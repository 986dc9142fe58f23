package ca

import (
	"crypto"
	"fmt"
	"time"
)

// PrepareProof makes the TBS of an AWS verification certificate: CN = code, fresh P-256 key whose private half is thrown away, valid for a week.
// A code is 64 hex digits, or a UUID, which is what moto_server gives for one. ErrRefused for any other.
func (a *Authority) PrepareProof(code string, pub crypto.PublicKey, s Serial, now time.Time) (*Prepared, error) {
	if !codeForm.MatchString(code) {
		return nil, fmt.Errorf("%w: %q is not a registration code", ErrRefused, clip(code))
	}
	if now.After(a.config.Certificate.NotAfter) {
		return nil, fmt.Errorf("%w: CA %s has ended", ErrRefused, a.Name())
	}
	key, err := newPublicKey(pub)
	if err != nil {
		return nil, err
	}
	t := template{serial: s, subject: []subjectAttribute{{oidCommonName, code, true}}, key: key, keyUsage: usageDigitalSignature, links: a.links}
	now = now.UTC().Truncate(time.Second)
	t.notBefore, t.notAfter = now.Add(-5*time.Minute), now.Add(7*24*time.Hour)
	if end := a.config.Certificate.NotAfter; t.notAfter.After(end) {
		t.notAfter = end.UTC()
	}
	return a.prepare(KindProof, t)
}
