package ca

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"unicode/utf8"
)

// AltNameConfig is one subject alternative name of a device (RFC 5280 4.2.1.6): one of its fields is set. Placeholders stand as in the subject.
type AltNameConfig struct {
	DNS            string                `yaml:"dns" json:"dns,omitempty"`                         // host name, at most 253 characters, no wildcard
	Email          string                `yaml:"email" json:"email,omitempty"`                     // local part and host name, ASCII, at most 254
	IP             string                `yaml:"ip" json:"ip,omitempty"`                           // IPv4 or IPv6
	URI            string                `yaml:"uri" json:"uri,omitempty"`                         // absolute, its scheme fixed, at most 256
	HardwareModule *HardwareModuleConfig `yaml:"hardware_module" json:"hardware_module,omitempty"` // otherName hardwareModuleName (RFC 4108 5)
}

// HardwareModuleConfig names a piece of hardware: what 802.1AR devices carry.
type HardwareModuleConfig struct {
	Type   string `yaml:"type" json:"type"`     // object identifier of the kind of hardware
	Serial string `yaml:"serial" json:"serial"` // its serial number, at most 64 octets of UTF-8
}

// maxAltNames is how many alternative names a device may have.
const maxAltNames = 16

// Types of names, as they stand before what they say in an Allowance.
const (
	nameDNS    = "dns"
	nameEmail  = "email"
	nameIP     = "ip"
	nameURI    = "uri"
	nameModule = "hardware_module"
)

// altName is one alternative name of a profile.
type altName struct {
	kind   string
	module oid // of a hardware module
	text   text
}

// nameRules say for each type how long a text may be, which characters it has, and what it must look like when it is whole.
func nameRules(kind string) (longest int, char func(rune) bool, whole func(string) bool, clause string) {
	switch kind {
	case nameDNS:
		return 253, isHostChar, isHostName, "RFC 5280 4.2.1.6, RFC 1034 3.5: a host name"
	case nameEmail:
		return 254, isMailboxChar, isMailbox, "RFC 5280 4.2.1.6, RFC 2821 4.1.2: a mailbox"
	case nameIP:
		return 45, isAddressChar, isAddress, "RFC 5280 4.2.1.6: an IPv4 or IPv6 address"
	case nameURI:
		return 256, isURIChar, isURI, "RFC 5280 4.2.1.6, RFC 3986 4.3: an absolute URI"
	}
	return 64, nil, isModuleSerial, "RFC 4108 5 hwSerialNum: text of at most 64 octets here"
}

// checkAltNames reads alt_names.
func (p *Profile) checkAltNames() error {
	if len(p.config.AltNames) > maxAltNames {
		return fmt.Errorf("alt_names: %d names, at most %d", len(p.config.AltNames), maxAltNames)
	}
	for i, c := range p.config.AltNames {
		n, err := newAltName(c, p.placeholders)
		if err != nil {
			return fmt.Errorf("alt_names: name %d: %w", i+1, err)
		}
		p.altNames = append(p.altNames, n)
	}
	return nil
}

func newAltName(c AltNameConfig, known patterns) (n altName, err error) {
	var source string
	set := 0
	for _, f := range [][2]string{{nameDNS, c.DNS}, {nameEmail, c.Email}, {nameIP, c.IP}, {nameURI, c.URI}} {
		if f[1] != "" {
			n.kind, source, set = f[0], f[1], set+1
		}
	}
	if c.HardwareModule != nil {
		n.kind, source, set = nameModule, c.HardwareModule.Serial, set+1
		if n.module, err = parseOID(c.HardwareModule.Type); err != nil {
			return n, fmt.Errorf("hardware_module.type (RFC 4108 5 hwType): %w", err)
		}
	}
	if set != 1 {
		return n, errors.New("want one of dns, email, ip, uri and hardware_module")
	}
	if n.text, err = parseText(source, known); err != nil {
		return n, fmt.Errorf("%s: %w", n.kind, err)
	}
	return n, n.validate()
}

// validate says whether the name holds for everything that its placeholders may become, as far as that can be seen now; Prepare looks at what they became.
func (n altName) validate() error {
	longest, char, whole, clause := nameRules(n.kind)
	if n.text.fixed() {
		if !whole(n.text.parts[0]) {
			return fmt.Errorf("%s %q is not good (%s)", n.kind, clip(n.text.parts[0]), clause)
		}
		return nil
	}
	l, err := newLanguage(n.text.pattern())
	if err != nil {
		return fmt.Errorf("%s: %w", n.text.sources(), err)
	}
	most, bounded := l.maxLength()
	last := n.text.parts[len(n.text.parts)-1]
	switch {
	case !bounded || most > longest:
		return fmt.Errorf("%s may become longer than %d characters by %s (%s)", n.kind, longest, n.text.sources(), clause)
	case char != nil && !l.allows(char):
		return fmt.Errorf("%s lets characters through that the %s cannot hold (%s)", n.text.sources(), n.kind, clause)
	case n.kind == nameURI && !regexp.MustCompile(`^[a-z][a-z0-9+.-]*:`).MatchString(n.text.parts[0]):
		return fmt.Errorf("uri: its scheme must be fixed (%s)", clause)
	case n.kind == nameEmail && !isHostName(strings.TrimPrefix(last, "@")): // and "a.example.com", which is a host name, has no @
		return fmt.Errorf("email: what stands after @ must be fixed (%s)", clause)
	case n.kind == nameEmail && !strings.HasPrefix(last, "@"):
		return fmt.Errorf("email: what stands after @ must be fixed (%s)", clause)
	}
	return nil
}

// addTo renders the name and adds it.
func (n altName) addTo(all *altNames, with values) error {
	value := n.text.render(with)
	_, _, whole, clause := nameRules(n.kind)
	if !whole(value) {
		return fmt.Errorf("%w: %s %q is not good (%s)", ErrRefused, n.kind, clip(value), clause)
	}
	if plain := canonicalAddress(value); n.kind == nameIP && value != plain { // as the signer reads it back
		return fmt.Errorf("%w: ip %q is written %s (RFC 5952)", ErrRefused, clip(value), plain)
	}
	switch n.kind {
	case nameDNS, nameIP:
		return all.add(value)
	case nameEmail:
		all.emails = append(all.emails, value)
	case nameURI:
		all.uris = append(all.uris, value)
	case nameModule:
		all.modules = append(all.modules, hardwareModule{n.module, value})
	}
	return nil
}

// hardwareModule is a hardwareModuleName.
type hardwareModule struct {
	kind   oid
	serial string
}

func isHostChar(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '-' || r == '.'
}

func isMailboxChar(r rune) bool { return isHostChar(r) || r == '@' || r == '_' || r == '+' }

// isMailbox takes the plain ones: a dot-string of letters, digits and a few marks, and a host name.
func isMailbox(s string) bool {
	local, host, ok := strings.Cut(s, "@")
	for part := range strings.SplitSeq(local, ".") {
		ok = ok && part != "" && strings.IndexFunc(part, func(r rune) bool { return !isMailboxChar(r) }) < 0
	}
	return ok && len(local) <= 64 && len(s) <= 254 && isHostName(host)
}

func isAddressChar(r rune) bool {
	return '0' <= r && r <= '9' || 'a' <= r && r <= 'f' || 'A' <= r && r <= 'F' || r == ':' || r == '.'
}

func isAddress(s string) bool {
	ip, err := netip.ParseAddr(s)
	return err == nil && ip.Zone() == ""
}

// canonicalAddress is how an address is written (RFC 5952); "" for what is none.
func canonicalAddress(s string) string {
	ip, err := netip.ParseAddr(s)
	if err != nil {
		return ""
	}
	return ip.Unmap().String()
}

// isURIChar reports what RFC 3986 lets stand in a URI, but for brackets, which only hosts in IPv6 need.
func isURIChar(r rune) bool {
	return isHostChar(r) || strings.ContainsRune("_~:/?#@!$&'()*+,;=%", r)
}

// isURI takes absolute URIs without user information.
func isURI(s string) bool {
	u, err := url.Parse(s)
	return err == nil && len(s) <= 256 && u.Scheme != "" && u.User == nil && (u.Opaque != "" || u.Host != "") &&
		(u.Host == "" || isHostName(u.Hostname())) && strings.IndexFunc(s, func(r rune) bool { return !isURIChar(r) }) < 0
}

func isModuleSerial(s string) bool {
	return s != "" && len(s) <= 64 && utf8.ValidString(s) && !strings.ContainsFunc(s, isControl)
}
