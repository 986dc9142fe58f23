package ca

import (
	"fmt"
	"math/bits"
	"slices"
	"strings"
)

// Bits of KeyUsage (RFC 5280 4.2.1.3), as they stand in the first octet of its BIT STRING.
const (
	usageDigitalSignature byte = 0x80 >> iota
	usageContentCommitment
	usageKeyEncipherment
	usageDataEncipherment
	usageKeyAgreement
	usageCertSign
	usageCRLSign
)

// trailingZeros is the number of unused bits of a named bit list (X.690 11.2.2).
func trailingZeros(usage byte) int { return bits.TrailingZeros8(usage) % 8 }

// checkUsages reads key_usage and extended_key_usage.
func (p *Profile) checkUsages() error {
	known := map[string]byte{
		"digital_signature": usageDigitalSignature, "content_commitment": usageContentCommitment, "key_encipherment": usageKeyEncipherment,
		"data_encipherment": usageDataEncipherment, "key_agreement": usageKeyAgreement,
	}
	for _, name := range p.config.KeyUsage {
		bit, ok := known[name]
		if !ok {
			return fmt.Errorf("key_usage: %q is none of digital_signature, content_commitment, key_encipherment, data_encipherment, key_agreement", name)
		}
		p.keyUsage |= bit
	}
	isEC := func(kind string) bool { return !strings.HasPrefix(kind, "rsa") }
	if p.keyUsage&(usageKeyEncipherment|usageDataEncipherment) != 0 && slices.ContainsFunc(p.config.Keys, isEC) {
		return fmt.Errorf("key_usage: an EC key cannot encipher (RFC 8813 section 3): take the RSA keys into a profile of their own")
	}
	allowed, _ := kindRules(p.config.Kind)
	extended := map[string]oid{"client_auth": oidClientAuth, "server_auth": oidServerAuth}
	for _, name := range p.config.ExtendedKeyUsage {
		id, ok := extended[name]
		if !ok || !slices.Contains(allowed, id) {
			return fmt.Errorf("extended_key_usage: %q is not for a %s", name, p.config.Kind)
		}
		if slices.Contains(p.extKeyUsage, id) {
			return fmt.Errorf("extended_key_usage: %q stands twice", name)
		}
		p.extKeyUsage = append(p.extKeyUsage, id)
	}
	return nil
}
