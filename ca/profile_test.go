package ca

import (
	"errors"
	"strings"
	"testing"
)

// base is a profile with nothing left to its defaults but what the tests change.
const base = `version: 1
name: demo
kind: device
keys: [p256]
device_id: {from: either, pattern: "[A-Z0-9-]{1,40}"}
subject:
  common_name: "{device_id}"
  organization: Demo
validity: {duration: 20y, backdate: 5m}
key_usage: [digital_signature]
extended_key_usage: [client_auth]
`

// with changes base: pairs of old and new text.
func with(t testing.TB, replace ...string) string {
	t.Helper()
	for i := 0; i < len(replace); i += 2 {
		if !strings.Contains(base, replace[i]) {
			t.Fatalf("base holds no %q", replace[i])
		}
	}
	return strings.NewReplacer(replace...).Replace(base)
}

func TestDefaultProfiles(t *testing.T) {
	for _, kind := range []string{KindDevice, KindStation, KindService} {
		p := defaultProfile(t, kind)
		if p.Kind() != kind || p.Name() != kind || string(p.Source()) != string(DefaultProfile(kind)) {
			t.Errorf("%s: profile %s of kind %s", kind, p.Name(), p.Kind())
		}
	}
	if DefaultProfile(KindCA) != nil || DefaultProfile("../profiles/device") != nil {
		t.Error("a profile for what is no kind of profile")
	}
}

func TestProfileIsRefused(t *testing.T) {
	code := strings.Repeat("0a", 32)
	for _, c := range []struct {
		name, yaml, want string
	}{
		{"unknown key", with(t, "backdate", "backdated"), `unknown key "backdated"; did you mean "backdate"?`},
		{"version", with(t, "version: 1", "version: 2"), "version is 2"},
		{"name", with(t, "name: demo", "name: De mo"), `name "De mo"`},
		{"kind", with(t, "kind: device", "kind: ca"), `kind "ca"`},
		{"CA name", with(t, "kind: device", "kind: device\nca: ../x"), `ca "../x"`},
		{"key kind", with(t, "[p256]", "[p521]"), `keys: "p521" is none of p256`},
		{"small RSA", with(t, "[p256]", "[rsa1024]"), `keys: "rsa1024" is none of`},
		{"id source", with(t, "either", "subject"), `device_id.from "subject"`},
		{"pattern", with(t, "[A-Z0-9-]{1,40}", "[A-Z"), "device_id.pattern: error parsing regexp"},
		{"brackets that pair with ours", with(t, "[A-Z0-9-]{1,40}", "A)|(?:B"), "device_id.pattern: error parsing regexp"},
		{"pattern without end", with(t, "[A-Z0-9-]{1,40}", "D-[A-Z0-9-]+"), "has no greatest length, and common_name holds 64 characters (RFC 5280 A.1 ub-common-name)"},
		{"pattern too long", with(t, "[A-Z0-9-]{1,40}", "D-[A-Z0-9-]{1,63}"), "common_name may become 65 characters long"},
		{"pattern and text too long", with(t, `"{device_id}"`, `"a unit of Demo Incorporated {device_id}"`), "common_name may become 68 characters long"},
		{"pattern of codes", with(t, "[A-Z0-9-]{1,40}", "[0-9a-f]{64}"), "lets 64 hex digits through"},
		{"pattern that lets codes through", with(t, "[A-Z0-9-]{1,40}", "[A-Za-z0-9-]{1,64}"), "lets 64 hex digits through"},
		{"pattern that assertions make unclear", with(t, "[A-Z0-9-]{1,40}", `\\B[A-Z]{1,40}`), "no id was found"},
		{"serialNumber with underscore", with(t, "organization: Demo", `serial_number: "{device_id}"`, "[A-Z0-9-]{1,40}", "[A-Z_]{1,40}"), "cannot hold (RFC 5280 A.1 ub-serial-number"},
		{"code as text", with(t, "organization: Demo", "organization: "+code), "organization is 64 hex digits"},
		{"code after 0x", with(t, "organization: Demo", "state: 0x"+code), "state is 64 hex digits"},
		{"country of three letters", with(t, "organization: Demo", "country: DEU"), "country has 3 characters, at most 2 (X.520"},
		{"country in small letters", with(t, "organization: Demo", "country: de"), "country must be two capital letters"},
		{"country from the id", with(t, "organization: Demo", `country: "{device_id}"`, "[A-Z0-9-]{1,40}", "[A-Z]{2}"), "country must be fixed"},
		{"dnQualifier", with(t, "organization: Demo", "dn_qualifier: a_b"), "dn_qualifier holds a character that a PrintableString cannot"},
		{"organization too long", with(t, "Demo", strings.Repeat("D", 65)), "organization has 65 characters, at most 64"},
		{"state too long", with(t, "organization: Demo", "state: "+strings.Repeat("S", 129)), "state has 129 characters, at most 128"},
		{"control character", with(t, "Demo", `"De\u0007mo"`), "organization holds a control character"},
		{"space at the end", with(t, "Demo", `"Demo "`), "organization begins or ends with a space"},
		{"other placeholder", with(t, "Demo", `"{serial}"`), "{serial} stands for nothing: the placeholders are {device_id}"},
		{"no subject", with(t, `common_name: "{device_id}"`, "", "organization: Demo", "optional: []"), "subject is empty"},
		{"subject without id", with(t, `"{device_id}"`, "unit"), "no field that is always there holds {device_id}"},
		{"optional of nothing", with(t, "organization: Demo", "optional: [state]"), "subject.optional names state, which subject does not set"},
		{"optional of the unknown", with(t, "organization: Demo", "optional: [street]"), `subject.optional names "street"`},
		{"no validity", with(t, "duration: 20y, ", ""), "one of duration and not_after"},
		{"two validities", with(t, "20y", "20y, not_after: ca"), "one of duration and not_after"},
		{"duration", with(t, "20y", "20 years"), `validity.duration "20 years"`},
		{"long duration", with(t, "20y", "8000y"), "longer than 1000 years"},
		{"end", with(t, "duration: 20y", "not_after: 2056"), `validity.not_after "2056"`},
		{"end with a fraction", with(t, "duration: 20y", "not_after: '2056-01-01T00:00:00.5Z'"), "want a whole second"},
		{"end is past", with(t, "duration: 20y", "not_after: '2020-01-01T00:00:00Z'"), "validity.not_after is past"},
		{"backdate", with(t, "5m", "yesterday"), `validity.backdate "yesterday"`},
		{"long backdate", with(t, "5m", "48h"), "not within 0 and 24h"},
		{"negative backdate", with(t, "5m", "-5m"), "not within 0 and 24h"},
		{"key usage of a CA", with(t, "[digital_signature]", "[key_cert_sign]"), `key_usage: "key_cert_sign"`},
		{"EC enciphers", with(t, "[digital_signature]", "[digital_signature, key_encipherment]"), "RFC 8813"},
		{"clients do not encipher", with(t, "[p256]", "[rsa2048]", "[digital_signature]", "[key_encipherment]"), "e_key_usage_and_extended_key_usage_inconsistent (RFC5280)"},
		{"any purpose", with(t, "[client_auth]", "[any]"), `extended_key_usage: "any" is not for a device`},
		{"station as a server", with(t, "kind: device", "kind: station", "[client_auth]", "[server_auth]"), `"server_auth" is not for a station`},
		{"usage twice", with(t, "[client_auth]", "[client_auth, client_auth]"), "stands twice"},
		{"names of a device", with(t, "kind: device", "kind: device\nnames: [localhost]"), "names are for kind: service"},
		{"name that is none", with(t, "kind: device", "kind: service\nnames: ['*.example.com']", "client_auth", "server_auth"), "neither a DNS name"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ParseProfile([]byte(c.yaml))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestProfileIsTaken(t *testing.T) {
	for _, c := range []struct{ name, yaml string }{
		{"base", base},
		{"every key", with(t, "[p256]", "[p256, p384, rsa2048, rsa3072, rsa4096]")},
		{"RSA enciphers", with(t, "[p256]", "[rsa2048]", "[digital_signature]", "[digital_signature, key_encipherment]", "[client_auth]", "[client_auth, server_auth]")},
		{"no end", with(t, "duration: 20y", "not_after: 9999-12-31T23:59:59Z")},
		{"the CA's end", with(t, "duration: 20y", "not_after: ca")},
		{"hours", with(t, "20y", "12h")},
		{"text around the id keeps codes away", with(t, "[A-Z0-9-]{1,40}", "[A-F0-9]{1,58}", `"{device_id}"`, `"unit {device_id}"`)},
		{"serialNumber where it fits", with(t, "organization: Demo", "serial_number: '{device_id}'\n  optional: [serial_number]", "[A-Z0-9-]{1,40}", "[A-Z_]{1,40}")},
		{"every field", with(t, "organization: Demo", "country: DE\n  state: Bayern\n  organization: Gerätebau\n  organizational_unit: '{device_id}'\n  serial_number: '{device_id}'\n  dn_qualifier: 7 (b)")},
		{"alternatives", with(t, "[A-Z0-9-]{1,40}", "(?:A|B-[0-9]{4})")},
		{"service with an address", with(t, "kind: device", "kind: service\nnames: [localhost, 127.0.0.1, '::1']", "client_auth", "server_auth", "{device_id}", "certmill")},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := ParseProfile([]byte(c.yaml)); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// The hash stands in intents and orders: it may not change for a profile that stays the same, over versions of this program.
func TestProfileHash(t *testing.T) {
	hash := mustProfile(t, base).Hash()
	const want = "de16b9b1a1c450fcb5d719b76ca2a26a32b584cc10b966c514e5af011e9d2a1b"
	if hash != want {
		t.Errorf("hash of base is %s, was %s", hash, want)
	}
	if same := mustProfile(t, "# a comment\n"+with(t, "keys: [p256]\n", "", ", backdate: 5m", "")).Hash(); same != hash {
		t.Errorf("defaults that are left out make another hash, %s", same)
	}
	for _, change := range [][2]string{{"name: demo", "name: demo2"}, {"20y", "21y"}, {"[p256]", "[p384]"}, {"organization: Demo", "state: Demo"}} {
		if mustProfile(t, with(t, change[0], change[1])).Hash() == hash {
			t.Errorf("%q instead of %q makes the same hash", change[1], change[0])
		}
	}
}

func TestDeviceID(t *testing.T) {
	r := newRequest(t, "DEMO-1")
	anonymous := newRequest(t, "")
	for _, c := range []struct {
		from, body string
		request    *Request
		want       string
		err        error
	}{
		{"either", "DEMO-1", r, "DEMO-1", nil},
		{"either", "DEMO-1", anonymous, "DEMO-1", nil},
		{"either", "", r, "DEMO-1", nil},
		{"either", "", anonymous, "", ErrNoDevice},
		{"either", "DEMO-2", r, "", ErrMismatch},
		{"body", "DEMO-1", r, "DEMO-1", nil},
		{"body", "", r, "", ErrNoDevice},
		{"body", "DEMO-2", r, "", ErrMismatch},
		{"csr", "DEMO-1", r, "DEMO-1", nil},
		{"csr", "", r, "DEMO-1", nil},
		{"csr", "DEMO-1", anonymous, "", ErrNoDevice},
		{"either", "demo-1", anonymous, "", ErrRefused},
		{"either", "DEMO-1\n", anonymous, "", ErrRefused},
		{"either", "DEMO-\x00", anonymous, "", ErrRefused},
		{"either", strings.Repeat("0A", 32), anonymous, "", ErrRefused},
		{"either", "0x" + strings.Repeat("0A", 32), anonymous, "", ErrRefused},
		{"either", strings.Repeat("A", 1<<20), anonymous, "", ErrRefused},
	} {
		p := mustProfile(t, with(t, "either", c.from))
		got, err := p.DeviceID(c.body, c.request)
		if !errors.Is(err, c.err) || (err == nil && got != c.want) {
			t.Errorf("from %s, body %.80q, CN %q: %q, %v; want %q, %v", c.from, c.body, c.request.CommonName(), got, err, c.want, c.err)
		}
		if errors.Is(err, ErrNoDevice) && strings.HasSuffix(err.Error(), "from ") {
			t.Errorf("%v: from where?", err)
		}
		if err != nil && len(err.Error()) > 400 {
			t.Errorf("an error of %d characters", len(err.Error()))
		}
	}
}

func TestCheckKey(t *testing.T) {
	p := mustProfile(t, with(t, "[p256]", "[p384, rsa2048]"))
	for kind, want := range map[string]error{keyP256: ErrWeakKey, keyP384: nil, "rsa2048": nil} {
		r, err := ParseRequest(newCSR(t, newKey(t, kind), "x"))
		if err != nil {
			t.Fatal(err)
		}
		if err := p.CheckKey(r); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", kind, err, want)
		}
	}
}

// Whatever a profile says, it is refused or makes samples that the linter passes; a value that it lets through is never a code.
func FuzzProfile(f *testing.F) {
	f.Add("[A-Z0-9-]{1,40}", "{device_id}", "{device_id}", "20y", "5m", "ABC-1")
	f.Add("[A-F0-9]{2}", strings.Repeat("AB", 31)+"{device_id}", "", "90d", "0s", "AB")
	f.Fuzz(func(t *testing.T, pattern, cn, serial, duration, backdate, id string) {
		c := ProfileConfig{Version: 1, Name: "demo", Kind: KindDevice, DeviceID: DeviceIDConfig{Pattern: pattern},
			Subject: SubjectConfig{CommonName: cn, SerialNumber: serial}, Validity: ValidityConfig{Duration: duration, Backdate: backdate}}
		c.setDefaults()
		p, err := newProfile(c)
		if err != nil || p.matchID(id) != nil {
			t.Skip("refused")
		}
		if err := lintSamples(p); err != nil {
			t.Skip("refused")
		}
		subject, err := render(p.subject, values{id: id})
		for _, a := range subject {
			if isRegistrationCode(a.text) {
				t.Fatalf("%q becomes %q", id, a.text)
			}
		}
		if err != nil && !errors.Is(err, ErrRefused) {
			t.Fatal(err)
		}
	})
}
