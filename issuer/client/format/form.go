package format

import (
	"encoding/json"
	"errors"
	"slices"

	pkcs12 "software.sslmate.com/src/go-pkcs12"
)

// Form is one way to write a device's certificate.
type Form struct {
	Name  string
	Key   Need // of the private key
	Chain Need // of the certificates above the device's
	Write func(*Device) ([]byte, error)
}

// Need says whether a form takes a thing.
type Need int

// A form never takes it, may take it, or cannot be made without it.
const (
	Never Need = iota
	May
	Must
)

// forms are all of them, by the names that the command line has for them.
var forms = []Form{
	{Name: "pem", Chain: May, Write: func(d *Device) ([]byte, error) {
		return append(pemOf(d.Leaf), pemOf(d.withoutRoot()...)...), nil
	}},
	{Name: "der", Write: func(d *Device) ([]byte, error) { return d.Leaf.Raw, nil }},
	{Name: "p12", Key: Must, Chain: Must, Write: writeP12},
	{Name: "p7b", Chain: Must, Write: writeP7B},
	{Name: "c-array", Key: May, Chain: May, Write: writeC},
	{Name: "json", Write: func(d *Device) ([]byte, error) {
		b, err := json.Marshal(d.Answer)
		return append(b, '\n'), err
	}},
	{Name: "esp-secure-cert", Key: May, Chain: Must, Write: writeESP},
	{Name: "label", Write: func(d *Device) ([]byte, error) { return Labels(d.Answer) }},
}

// Names lists the forms.
func Names() (names []string) {
	for _, f := range forms {
		names = append(names, f.Name)
	}
	return names
}

// ByName finds a form.
func ByName(name string) (Form, bool) {
	i := slices.IndexFunc(forms, func(f Form) bool { return f.Name == name })
	if i < 0 {
		return Form{}, false
	}
	return forms[i], true
}

// Secret says whether what a form wrote for d holds the private key.
func (f Form) Secret(d *Device) bool { return f.Key != Never && d.Key != nil }

// writeP12 makes a PKCS#12 file (RFC 7292) with PBES2, AES-256 and HMAC-SHA-256: what OpenSSL 3, Java, Windows and browsers of today read.
func writeP12(d *Device) ([]byte, error) {
	if d.Key == nil || d.Password == "" {
		return nil, errors.New("PKCS#12 needs the private key and a password")
	}
	return pkcs12.Modern2023.Encode(d.Key, d.Leaf, d.Above, d.Password)
}
