package ca

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// field is one subject attribute that a profile may set, with the rules it comes under.
type field struct {
	name      string // as profiles spell it
	oid       oid
	max       int    // characters
	printable bool   // PrintableString alone
	clause    string // where it is written
}

// subjectFields are the attributes that a JITP template may ask for, and locality, which none can (aws-iot-rules PT-52), in the order in which they stand in the certificate,
// which is that of crypto/x509.
func subjectFields() [8]field {
	return [...]field{
		{"country", oidCountry, 2, true, "X.520 6.3.1: two letters of ISO 3166"},
		{"state", oidState, 128, false, "RFC 5280 A.1 ub-state-name"},
		{"locality", oidLocality, 128, false, "RFC 5280 A.1 ub-locality-name"},
		{"organization", oidOrganization, 64, false, "RFC 5280 A.1 ub-organization-name"},
		{"organizational_unit", oidOrganizationalUnit, 64, false, "RFC 5280 A.1 ub-organizational-unit-name"},
		{"common_name", oidCommonName, 64, false, "RFC 5280 A.1 ub-common-name"},
		{"serial_number", oidSerialNumber, 64, true, "RFC 5280 A.1 ub-serial-number, X520SerialNumber"},
		{"dn_qualifier", oidDNQualifier, 64, true, "RFC 5280 A.1 X520dnQualifier"},
	}
}

// check says whether the attribute can hold a value.
func (f field) check(value string) error {
	n := utf8.RuneCountInString(value)
	switch {
	case value == "":
		return fmt.Errorf("%s is empty", f.name)
	case !utf8.ValidString(value) || strings.ContainsFunc(value, isControl):
		return fmt.Errorf("%s holds a control character or invalid UTF-8", f.name)
	case strings.TrimSpace(value) != value:
		return fmt.Errorf("%s begins or ends with a space", f.name)
	case n > f.max:
		return fmt.Errorf("%s has %d characters, at most %d (%s)", f.name, n, f.max, f.clause)
	case f.printable && !allPrintable(value):
		return fmt.Errorf("%s holds a character that a PrintableString cannot (%s)", f.name, f.clause)
	case f.oid == oidCountry && !isCountry(value):
		return fmt.Errorf("%s must be two capital letters (%s)", f.name, f.clause)
	case isRegistrationCode(value):
		return fmt.Errorf("%s is 64 hex digits, the form of an AWS registration code", f.name)
	}
	return nil
}

// checkLanguage says whether the attribute can hold every value of a language; source names the patterns that it comes from.
func (f field) checkLanguage(l language, source string) error {
	n, bounded := l.maxLength()
	switch {
	case l.holdsCode():
		return fmt.Errorf("%s lets 64 hex digits through: %s would be an AWS registration code; keep it below 64 characters", source, f.name)
	case !bounded:
		return fmt.Errorf("%s has no greatest length, and %s holds %d characters (%s): write {1,%d} for +", source, f.name, f.max, f.clause, f.max)
	case n > f.max:
		return fmt.Errorf("%s may become %d characters long, at most %d (%s)", f.name, n, f.max, f.clause)
	case f.printable && !l.allows(isPrintable):
		return fmt.Errorf("%s lets characters through that %s, a PrintableString, cannot hold (%s); narrow it, or name %s in subject.optional",
			source, f.name, f.clause, f.name)
	case f.oid == oidCountry:
		return fmt.Errorf("country must be fixed (%s)", f.clause)
	}
	return nil
}

func allPrintable(value string) bool {
	return strings.IndexFunc(value, func(r rune) bool { return !isPrintable(r) }) < 0
}

func isCountry(v string) bool {
	return len(v) == 2 && 'A' <= v[0] && v[0] <= 'Z' && 'A' <= v[1] && v[1] <= 'Z'
}
