package ca

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/certmill/certmill/internal/strictyaml"
)

// ProfileConfig is what a profile's YAML says. Its JSON form, with defaults filled in, is what Profile.Hash is taken over:
// a new field must be omitted from JSON where it is empty, so that profiles keep their hashes.
type ProfileConfig struct {
	Version          int            `yaml:"version" json:"version"`                       // 1
	Name             string         `yaml:"name" json:"name"`                             // 1 to 64 of a-z, 0-9, "-", ".", "_"
	Kind             string         `yaml:"kind" json:"kind"`                             // device, station or service
	CA               string         `yaml:"ca" json:"ca,omitempty"`                       // name of the CA it wants; default: any
	Keys             []string       `yaml:"keys" json:"keys"`                             // p256, p384, rsa2048, rsa3072, rsa4096; default [p256]
	DeviceID         DeviceIDConfig `yaml:"device_id" json:"device_id"`                   // which names are taken
	Subject          SubjectConfig  `yaml:"subject" json:"subject"`                       // what the certificate says of its holder
	Validity         ValidityConfig `yaml:"validity" json:"validity"`                     // how long it lives
	KeyUsage         []string       `yaml:"key_usage" json:"key_usage"`                   // default [digital_signature]
	ExtendedKeyUsage []string       `yaml:"extended_key_usage" json:"extended_key_usage"` // default [client_auth], for services [server_auth]
	Names            []string       `yaml:"names" json:"names,omitempty"`                 // services only: DNS names and IP addresses every certificate carries, before those asked for

	// Devices only.
	Attributes map[string]string `yaml:"attributes" json:"attributes,omitempty"` // what a device list says of each device: name, and the pattern (RE2) that the whole value matches
	AltNames   []AltNameConfig   `yaml:"alt_names" json:"alt_names,omitempty"`   // subject alternative names
	Extensions []ExtensionConfig `yaml:"extensions" json:"extensions,omitempty"` // extensions of your own, never critical
	Policies   []string          `yaml:"policies" json:"policies,omitempty"`     // certificate policies: object identifiers
	IDevID     bool              `yaml:"idevid" json:"idevid,omitempty"`         // holds the profile to IEEE 802.1AR-2018

	Links []string `yaml:"links" json:"links,omitempty"` // ocsp, ca_issuers, crl: those of the CA's URLs that are written; none; default all
}

// DeviceIDConfig says where a device id comes from and what it may be. For stations it is about the station's name.
type DeviceIDConfig struct {
	From    string `yaml:"from" json:"from"`       // body, csr (its common name) or either; default either
	Pattern string `yaml:"pattern" json:"pattern"` // regular expression (RE2) that the whole id must match; default DefaultIDPattern
}

// DefaultIDPattern is what AWS IoT takes as a thing name and client id, but for its greatest length.
const DefaultIDPattern = `[A-Za-z0-9][A-Za-z0-9:_-]{2,62}`

// SubjectConfig holds fixed text, where {device_id} stands for the device id and {attribute.NAME} for an attribute of the device. What is empty is left out.
type SubjectConfig struct {
	Country            string `yaml:"country" json:"country,omitempty"`                         // two capital letters
	Organization       string `yaml:"organization" json:"organization,omitempty"`               // at most 64 characters
	OrganizationalUnit string `yaml:"organizational_unit" json:"organizational_unit,omitempty"` // at most 64
	State              string `yaml:"state" json:"state,omitempty"`                             // at most 128
	Locality           string `yaml:"locality" json:"locality,omitempty"`                       // at most 128
	CommonName         string `yaml:"common_name" json:"common_name,omitempty"`                 // at most 64
	SerialNumber       string `yaml:"serial_number" json:"serial_number,omitempty"`             // at most 64, PrintableString
	DNQualifier        string `yaml:"dn_qualifier" json:"dn_qualifier,omitempty"`               // at most 64, PrintableString
	// Optional names fields that are left out of a certificate where the device id does not fit; without it such an id is refused.
	Optional []string `yaml:"optional" json:"optional,omitempty"`
}

func (c SubjectConfig) value(field string) string {
	return map[string]string{
		"country": c.Country, "organization": c.Organization, "organizational_unit": c.OrganizationalUnit, "state": c.State,
		"locality":    c.Locality,
		"common_name": c.CommonName, "serial_number": c.SerialNumber, "dn_qualifier": c.DNQualifier,
	}[field]
}

// ValidityConfig wants one of Duration and NotAfter.
type ValidityConfig struct {
	Duration string `yaml:"duration" json:"duration,omitempty"`   // from now: 20y (calendar years), 90d, 12h, 30m
	NotAfter string `yaml:"not_after" json:"not_after,omitempty"` // RFC 3339; 9999-12-31T23:59:59Z is "no end" (RFC 5280 4.1.2.5); ca: the CA's own end
	Backdate string `yaml:"backdate" json:"backdate"`             // notBefore is that long ago, for clocks that are behind; 0s to 24h, default 5m
}

// kindRules are what a kind of certificate may be used for (Policy.Check demands the same).
func kindRules(kind string) (usages []oid, ok bool) {
	switch kind {
	case KindDevice:
		return []oid{oidClientAuth, oidServerAuth}, true
	case KindStation:
		return []oid{oidClientAuth}, true
	case KindService:
		return []oid{oidServerAuth}, true
	}
	return nil, false
}

// setDefaults fills in what the file left out.
func (c *ProfileConfig) setDefaults() {
	if len(c.Keys) == 0 {
		c.Keys = []string{keyP256}
	}
	if len(c.KeyUsage) == 0 {
		c.KeyUsage = []string{"digital_signature"}
	}
	if len(c.ExtendedKeyUsage) == 0 {
		c.ExtendedKeyUsage = []string{"client_auth"}
		if c.Kind == KindService {
			c.ExtendedKeyUsage = []string{"server_auth"}
		}
	}
	for field, value := range map[*string]string{&c.DeviceID.From: "either", &c.DeviceID.Pattern: DefaultIDPattern, &c.Validity.Backdate: "5m"} {
		if *field == "" {
			*field = value
		}
	}
}

// Profile is what a certificate may be: immutable, named by its hash. Safe for concurrent use.
type Profile struct {
	config      ProfileConfig
	source      []byte
	hash        string
	id          *regexp.Regexp
	subject     []subjectValue
	validity    validity
	keyUsage    byte
	extKeyUsage []oid
	names       altNames

	placeholders patterns
	attributes   map[string]*regexp.Regexp // by name
	altNames     []altName
	extensions   []customValue
	policies     []oid
	omitted      links // what is not "" is left out
}

// ParseProfile reads a profile (YAML, strict), checks it and lints a sample certificate of each kind of key. An error names the
// line or the field, and the clause or lint.
func ParseProfile(yaml []byte) (*Profile, error) {
	var c ProfileConfig
	if err := strictyaml.Decode(yaml, &c); err != nil {
		return nil, err
	}
	c.setDefaults()
	p, err := newProfile(c)
	if err != nil {
		return nil, err
	}
	canonical, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(canonical)
	p.hash, p.source = hex.EncodeToString(sum[:]), slices.Clone(yaml)
	if err := lintSamples(p); err != nil {
		return nil, err
	}
	return p, nil
}

func newProfile(c ProfileConfig) (*Profile, error) {
	p := &Profile{config: c}
	for _, step := range []func(*Profile) error{
		(*Profile).checkHead, (*Profile).checkKeys, (*Profile).checkID, (*Profile).checkUsages, (*Profile).checkNames,
		(*Profile).checkDeviceOnly, (*Profile).checkAttributes, (*Profile).checkAltNames, (*Profile).checkCustom, (*Profile).checkPolicies, (*Profile).checkLinks,
	} {
		if err := step(p); err != nil {
			return nil, err
		}
	}
	var err error
	if p.subject, err = newSubject(c.Subject, p.placeholders); err != nil {
		return nil, err
	}
	bound := func(v subjectValue) bool { return !v.optional && v.text.has(placeholder) }
	if c.Kind != KindService && !slices.ContainsFunc(p.subject, bound) {
		return nil, fmt.Errorf("subject: no field that is always there holds %s", placeholder)
	}
	if p.validity, err = newValidity(c.Validity); err != nil {
		return nil, err
	}
	if err := p.checkAllowance(); err != nil {
		return nil, err
	}
	return p, p.checkIDevID()
}

func (p *Profile) checkHead() error {
	switch {
	case p.config.Version != 1:
		return fmt.Errorf("version is %d, this program reads version 1", p.config.Version)
	case !isName(p.config.Name):
		return fmt.Errorf("name %q: want 1 to 64 of a-z, 0-9, -, . and _", p.config.Name)
	case p.config.CA != "" && !isName(p.config.CA):
		return fmt.Errorf("ca %q: want 1 to 64 of a-z, 0-9, -, . and _", p.config.CA)
	}
	if _, known := kindRules(p.config.Kind); !known {
		return fmt.Errorf("kind %q: want device, station or service", p.config.Kind)
	}
	return nil
}

// isName reports whether s is a name of ours: of a profile, a CA. CA names stand in URLs.
func isName(s string) bool {
	return len(s) >= 1 && len(s) <= 64 && s[0] != '.' &&
		strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-._") == ""
}

func (p *Profile) checkKeys() error {
	known := []string{keyP256, keyP384, "rsa2048", "rsa3072", "rsa4096"}
	for _, k := range p.config.Keys {
		if k == "ed25519" || k == "ed448" {
			return fmt.Errorf("keys: %q: AWS IoT takes no Ed25519 and no Ed448 (aws-iot-rules CA-34, DC-13)", k)
		}
		if !slices.Contains(known, k) {
			return fmt.Errorf("keys: %q is none of %s", k, strings.Join(known, ", "))
		}
	}
	return nil
}

func (p *Profile) checkID() error {
	c := p.config.DeviceID
	if !slices.Contains([]string{"body", "csr", "either"}, c.From) {
		return fmt.Errorf("device_id.from %q: want body, csr or either", c.From)
	}
	re, err := compilePattern(c.Pattern)
	if err != nil {
		return fmt.Errorf("device_id.pattern: %w", err)
	}
	p.id = re
	return nil
}

func (p *Profile) checkDeviceOnly() error {
	c := p.config
	if c.Kind != KindDevice && (len(c.Attributes)+len(c.AltNames)+len(c.Extensions)+len(c.Policies) > 0 || c.IDevID) {
		return errors.New("attributes, alt_names, extensions, policies and idevid are for kind: device")
	}
	return nil
}

// checkIDevID holds a profile to what IEEE 802.1AR-2018 wants of an initial device identity beyond RFC 5280.
func (p *Profile) checkIDevID() error {
	if !p.config.IDevID {
		return nil
	}
	named := func(v subjectValue) bool { return v.field.oid == oidSerialNumber && !v.optional && !v.text.fixed() }
	switch {
	case !slices.ContainsFunc(p.subject, named):
		return errors.New("idevid: subject.serial_number must be there for every device and name it (IEEE 802.1AR-2018, subject; RFC 8995 2.3.1)")
	case p.keyUsage&usageDigitalSignature == 0:
		return errors.New("idevid: key_usage must hold digital_signature (IEEE 802.1AR-2018, keyUsage)")
	}
	return nil
}

// Name is the profile's name in the configuration.
func (p *Profile) Name() string { return p.config.Name }

// Hash is the hex SHA-256 of the canonical form; what intents record.
func (p *Profile) Hash() string { return p.hash }

// Kind is KindDevice, KindStation or KindService.
func (p *Profile) Kind() string { return p.config.Kind }

// CA is the name of the CA it wants; "" any.
func (p *Profile) CA() string { return p.config.CA }

// Source is the YAML it was made of.
func (p *Profile) Source() []byte { return slices.Clone(p.source) }

// DeviceID decides which device is meant: body's id, or the CSR's CN where the profile takes it.
// Errors: ErrNoDevice, ErrMismatch, ErrRefused (pattern, 64 hex digits).
func (p *Profile) DeviceID(body string, r *Request) (string, error) {
	id, cn := body, r.CommonName()
	if id != "" && cn != "" && id != cn {
		return "", fmt.Errorf("%w: %q and %q", ErrMismatch, clip(id), clip(cn))
	}
	switch p.config.DeviceID.From {
	case "csr":
		id = cn
	case "either":
		id = cmp.Or(id, cn)
	}
	if id == "" {
		return "", fmt.Errorf("%w: profile %s takes it from %s", ErrNoDevice, p.Name(), p.idSource())
	}
	return id, p.matchID(id)
}

func (p *Profile) idSource() string {
	return map[string]string{
		"body": "the request's device_id", "csr": "the CSR's common name", "either": "the request's device_id or the CSR's common name",
	}[p.config.DeviceID.From]
}

// matchID says whether the profile takes an id.
func (p *Profile) matchID(id string) error {
	switch {
	case isRegistrationCode(id):
		return fmt.Errorf("%w: device id is 64 hex digits, the form of an AWS registration code", ErrRefused)
	case !utf8.ValidString(id) || strings.ContainsFunc(id, isControl):
		return fmt.Errorf("%w: device id holds a control character", ErrRefused)
	case !p.id.MatchString(id):
		return fmt.Errorf("%w: device id %q does not match %s of profile %s", ErrRefused, clip(id), p.config.DeviceID.Pattern, p.Name())
	}
	return nil
}

// clip keeps a stranger's text from filling the log.
func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}

// CheckKey says whether the profile takes this kind of key: ErrWeakKey.
func (p *Profile) CheckKey(r *Request) error {
	if !slices.Contains(p.config.Keys, r.publicKey.kind) {
		return fmt.Errorf("%w: profile %s takes %s, not %s", ErrWeakKey, p.Name(), strings.Join(p.config.Keys, ", "), r.publicKey.kind)
	}
	return nil
}
