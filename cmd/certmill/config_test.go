package main

import (
	"strings"
	"testing"
	"time"
)

// contractConfig is the example of design.md section 5: these keys mean this.
const contractConfig = `
version: 1
node: line-a
listen: {stations: "127.0.0.1:8443", public: "127.0.0.1:8080", metrics: "127.0.0.1:9464", admin: run/admin.sock}
public_url: http://pki.example.com
ledger: {bbolt: ledger/ledger.db}
state: state
tokens:
  main:
    module: /usr/lib/softhsm/libsofthsm2.so
    token: certmill
    pin: {file: tokens/pin}
    env: {SOFTHSM2_CONF: tokens/softhsm2.conf}
    signers: auto
    deadline: 2s
profiles: [profiles/device.yaml]
`

func TestContractConfig(t *testing.T) {
	c, err := parseConfig([]byte(contractConfig))
	if err != nil {
		t.Fatal(err)
	}
	c.dir = "/plant"
	h, err := c.tokenConfig("main")
	if err != nil {
		t.Fatal(err)
	}
	if h.PIN.File != "/plant/tokens/pin" || h.Deadline != 2*time.Second || h.Signers != 0 || h.Dir != "/plant" ||
		len(h.Env) != 1 || h.Env[0] != "SOFTHSM2_CONF=tokens/softhsm2.conf" {
		t.Errorf("token: %+v", h)
	}
	if c.path(c.State) != "/plant/state" || c.PublicURL != "http://pki.example.com" {
		t.Errorf("config: %+v", c)
	}
}

func TestConfigSaysWhatIsWrong(t *testing.T) {
	token := "version: 1\ntokens: {main: {module: m, "
	for _, c := range []struct{ name, in, want string }{
		{"version", "version: 2", "version: 2 is not known"},
		{"typing error", "version: 1\nledgr: {bbolt: x}", `did you mean "ledger"?`},
		{"state inside ledger", "version: 1\nstate: ledger/state", "lies inside the ledger's folder"},
		{"no module", "version: 1\ntokens: {main: {token: x, pin: {file: p}}}", "tokens.main.module: missing"},
		{"no token", token + "pin: {file: p}}}", "tokens.main.token: missing"},
		{"two PINs", token + "token: x, pin: {file: p, prompt: true}}}", "exactly one of"},
		{"no PIN", token + "token: x}}", "exactly one of"},
		{"signers", token + "token: x, pin: {file: p}, signers: many}}", "neither auto nor a number"},
		{"deadline", token + "token: x, pin: {file: p}, deadline: -1s}}", "longer than 0"},
		{"URI with a query", token + `uri: "pkcs11:token=k?pin-source=file:/etc/pin", pin: {file: p}}}`, `"?pin-source=file:/etc/pin" is not used`},
		{"URI", token + `uri: "pkcs11:object=k", pin: {file: p}}}`, `attribute "object" is not used`},
		{"TLS", "version: 1\nlisten: {tls_min: \"1.1\"}", `neither "1.3" nor "1.2"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := parseConfig([]byte(c.in))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v; want one with %q", err, c.want)
			}
		})
	}
}

func TestTokenURI(t *testing.T) {
	c, err := parseConfig([]byte(`{version: 1, tokens: {main: {module: m, uri: "pkcs11:token=line%20a;serial=0f1e", pin: {prompt: true}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Tokens["main"]; got.Token != "line a" || got.Serial != "0f1e" {
		t.Errorf("got %+v", got)
	}
}
