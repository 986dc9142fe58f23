package issuer

import (
	"fmt"
	"regexp"
	"unicode"
	"unicode/utf8"

	"github.com/certmill/certmill/ca"
)

// name is what orders, products, stations and CAs may be called: it stands in paths, globs, file names and logs.
var name = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

func checkName(what, s string) error {
	if !name.MatchString(s) || registrationCode.MatchString(s) {
		return fmt.Errorf("%s %q: 1 to 63 letters, digits, dots, underscores and hyphens: %w", what, s, ErrInvalid)
	}
	return nil
}

// maxText bounds what people write beside an act.
const maxText = 500

// checkText takes reasons and actors: short, printable, and never empty, for somebody will ask.
func checkText(reason, by string) error {
	if !printable(reason, maxText) || !printable(by, maxText) {
		return fmt.Errorf("reason and actor must be 1 to %d printable characters: %w", maxText, ErrInvalid)
	}
	return nil
}

// printable reports whether s is 1 to limit printable characters.
func printable(s string, limit int) bool {
	if s == "" || !utf8.ValidString(s) || utf8.RuneCountInString(s) > limit {
		return false
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

// registrationCode is how an AWS registration code looks. A certificate that carries one as a subject value proves to AWS that its holder
// owns our CA, so nobody but Prove may have one made (design.md section 2).
var registrationCode = regexp.MustCompile(`^(0x)?[0-9a-fA-F]{64}$`)

// slot is what the places for certificates in one device may be called.
var slot = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,30}$`)

const (
	mainSlot    = "main"
	maxDeviceID = 128 // with product and slot it fits a claim
)

// checkDevice takes what may stand in a claim and in files with one device a line; what an id means, profile and order say.
func checkDevice(id, in string) error {
	switch {
	case registrationCode.MatchString(id):
		return fmt.Errorf("device id of 64 hex digits: %w", ca.ErrRefused)
	case len(id) > maxDeviceID || !printable(id, maxDeviceID):
		return fmt.Errorf("device id is not 1 to %d octets of printable characters: %w", maxDeviceID, ca.ErrRefused)
	case !slot.MatchString(in):
		return fmt.Errorf("slot is not 1 to 31 letters, digits, dots, underscores and hyphens: %w", ca.ErrRefused)
	}
	return nil
}
