package ca

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	der "golang.org/x/crypto/cryptobyte/asn1"
)

// Allowance is what device certificates may carry beyond what every one has. It is made of the profiles when a service starts; whoever takes the
// service over later gets no name and no extension signed that no profile describes.
type Allowance struct {
	Names      []string `json:"names,omitempty"`      // regular expressions of whole names: dns:…, email:…, ip:…, uri:…, hardware_module:OID:…
	Extensions []string `json:"extensions,omitempty"` // of whole extensions: OID utf8:…, OID octets:HEX, OID der:HEX
	Policies   []string `json:"policies,omitempty"`   // certificate policies, dotted
}

// Allow is what the certificates of these profiles carry.
func Allow(profiles ...*Profile) (all Allowance) {
	for _, p := range profiles {
		for _, n := range p.altNames {
			all.Names = addOnce(all.Names, n.allow())
		}
		for _, v := range p.extensions {
			all.Extensions = addOnce(all.Extensions, v.allow())
		}
		for _, id := range p.policies {
			all.Policies = addOnce(all.Policies, id.String())
		}
	}
	return all
}

// maxAllowance bounds what one profile adds to an Allowance, in characters: signers get it in one packet with everything else.
const maxAllowance = 4096

// checkAllowance refuses a profile whose names and extensions take too long to describe.
func (p *Profile) checkAllowance() error {
	a, n := Allow(p), 0
	for _, pattern := range slices.Concat(a.Names, a.Extensions) {
		n += len(pattern)
	}
	if n > maxAllowance {
		return fmt.Errorf("alt_names and extensions: %d characters with the patterns in them, at most %d: shorten device_id.pattern or attributes", n, maxAllowance)
	}
	return nil
}

func addOnce(all []string, one string) []string {
	if slices.Contains(all, one) {
		return all
	}
	return append(all, one)
}

func (n altName) allow() string {
	switch n.kind {
	case nameDNS, nameIP:
		return n.kind + ":(?i:" + n.text.pattern() + ")"
	case nameModule:
		return n.kind + ":" + regexp.QuoteMeta(n.module.String()) + ":" + n.text.pattern()
	}
	return n.kind + ":" + n.text.pattern()
}

func (v customValue) allow() string {
	what := regexp.QuoteMeta(v.id.String()) + " " + v.form + ":"
	if v.form == formUTF8 {
		return what + v.text.pattern()
	}
	return what + "(?i:" + v.text.pattern() + ")"
}

// allowed is an Allowance, compiled. nil allows nothing.
type allowed struct {
	names, extensions []*regexp.Regexp
	policies          []string
}

func (a Allowance) compile() (*allowed, error) {
	all := &allowed{policies: a.Policies}
	for _, list := range []struct {
		from []string
		to   *[]*regexp.Regexp
	}{{a.Names, &all.names}, {a.Extensions, &all.extensions}} {
		for _, pattern := range list.from {
			re, err := regexp.Compile(`\A(?:` + pattern + `)\z`)
			if err != nil {
				return nil, fmt.Errorf("allowance: %w", err)
			}
			*list.to = append(*list.to, re)
		}
	}
	return all, nil
}

// check judges an extension that not every certificate has.
func (a *allowed) check(e extension) error {
	switch {
	case a == nil || e.critical:
		return errNoPlace
	case e.id == oidSubjectAltName:
		return a.checkNames(e.value)
	case e.id == oidCertificatePolicies:
		return a.checkPolicies(e.value)
	}
	return a.checkCustom(e)
}

// errNoPlace says that no profile has such an extension at all.
var errNoPlace = errors.New("has no place")

func (a *allowed) checkNames(value []byte) error {
	if len(a.names) == 0 {
		return errNoPlace
	}
	in := cryptobyte.String(value)
	count := 0
	ok := takeEach(&in, der.SEQUENCE, func(s *cryptobyte.String) bool {
		name, ok := readAltName(s)
		count++
		return ok && count <= maxAltNames && matchAny(a.names, name)
	})
	if !ok || !in.Empty() {
		return errors.New("subject alternative name is none that a profile describes")
	}
	return nil
}

func (a *allowed) checkPolicies(value []byte) error {
	if len(a.policies) == 0 {
		return errNoPlace
	}
	in := cryptobyte.String(value)
	ok := takeEach(&in, der.SEQUENCE, func(s *cryptobyte.String) bool {
		var information cryptobyte.String
		if !s.ReadASN1(&information, der.SEQUENCE) {
			return false
		}
		id, ok := readOID(&information)
		return ok && information.Empty() && slices.Contains(a.policies, id.String())
	})
	if !ok || !in.Empty() {
		return errors.New("certificate policy is none that a profile names")
	}
	return nil
}

func (a *allowed) checkCustom(e extension) error {
	id := e.id.String()
	of := func(re *regexp.Regexp) bool { return strings.HasPrefix(re.String(), `\A(?:`+regexp.QuoteMeta(id)+" ") }
	if !slices.ContainsFunc(a.extensions, of) {
		return errNoPlace
	}
	if len(e.value) > maxCustomValue || !isDER(e.value, 0) {
		return fmt.Errorf("extension %s is not one element in DER of at most %d octets", id, maxCustomValue)
	}
	in := cryptobyte.String(e.value)
	var content cryptobyte.String
	var tag der.Tag
	said := []string{id + " " + formDER + ":" + hex.EncodeToString(e.value)}
	if in.ReadAnyASN1(&content, &tag) {
		switch tag {
		case der.UTF8String:
			said = append(said, id+" "+formUTF8+":"+string(content))
		case der.OCTET_STRING:
			said = append(said, id+" "+formOctets+":"+hex.EncodeToString(content))
		}
	}
	if !slices.ContainsFunc(said, func(s string) bool { return matchAny(a.extensions, s) }) {
		return fmt.Errorf("extension %s says what no profile describes", id)
	}
	return nil
}

func matchAny(all []*regexp.Regexp, s string) bool {
	return slices.ContainsFunc(all, func(re *regexp.Regexp) bool { return re.MatchString(s) })
}

// readAltName reads a GeneralName in the one form that our encoder writes, and says it as an Allowance does.
func readAltName(s *cryptobyte.String) (name string, ok bool) {
	var content cryptobyte.String
	var tag der.Tag
	if !s.ReadAnyASN1(&content, &tag) {
		return "", false
	}
	value := string(content)
	switch tag {
	case der.Tag(generalDNS).ContextSpecific():
		return nameDNS + ":" + value, isHostName(value)
	case der.Tag(generalEmail).ContextSpecific():
		return nameEmail + ":" + value, isMailbox(value)
	case der.Tag(generalURI).ContextSpecific():
		return nameURI + ":" + value, isURI(value)
	case der.Tag(generalIP).ContextSpecific():
		ip, ok := netip.AddrFromSlice(content)
		return nameIP + ":" + ip.String(), ok
	case contextTag(generalOther):
		return readModule(content)
	}
	return "", false
}

// readModule reads an otherName that is a hardwareModuleName.
func readModule(other cryptobyte.String) (name string, ok bool) {
	var explicit, module, serial cryptobyte.String
	id, ok := readOID(&other)
	if !ok || id != oidHardwareModule || !other.ReadASN1(&explicit, contextTag(0)) || !other.Empty() {
		return "", false
	}
	if !explicit.ReadASN1(&module, der.SEQUENCE) || !explicit.Empty() {
		return "", false
	}
	kind, ok := readOID(&module)
	if !ok || !module.ReadASN1(&serial, der.OCTET_STRING) || !module.Empty() {
		return "", false
	}
	return nameModule + ":" + kind.String() + ":" + string(serial), isModuleSerial(string(serial))
}
