package main

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/certmill/certmill/hsm"
	"github.com/certmill/certmill/internal/strictyaml"
)

// Config is certmill.yaml (contract, design.md section 5). Paths in it are relative to its folder; path resolves them.
type Config struct {
	Version    int                    `yaml:"version"`
	Node       string                 `yaml:"node"`
	Listen     ListenConfig           `yaml:"listen"`
	PublicURL  string                 `yaml:"public_url"` // base of AIA and CRL distribution points; left out of certificates where absent
	Ledger     LedgerConfig           `yaml:"ledger"`
	State      string                 `yaml:"state"` // what must not go back with the ledger; never inside its folder
	Tokens     map[string]TokenConfig `yaml:"tokens"`
	Profiles   []string               `yaml:"profiles"`
	AdminUsers []int                  `yaml:"admin_users"` // uids that the admin socket admits beside serve's own and root

	dir string // folder of the file
}

// ListenConfig holds addresses. An empty public or metrics address leaves that listener out.
type ListenConfig struct {
	Stations string   `yaml:"stations"`
	Public   string   `yaml:"public"`
	Metrics  string   `yaml:"metrics"`
	Admin    string   `yaml:"admin"`   // path of a unix socket
	TLSMin   string   `yaml:"tls_min"` // "1.3" (default) or "1.2"
	Names    []string `yaml:"names"`   // names and addresses in the service's certificate, beside the stations address, localhost and the host name
}

// LedgerConfig says where the record is kept.
type LedgerConfig struct {
	Bbolt string `yaml:"bbolt"`
}

// TokenConfig names one PKCS#11 token.
type TokenConfig struct {
	Module   string            `yaml:"module"`
	Token    string            `yaml:"token"`     // label
	Serial   string            `yaml:"serial"`    // or serial number
	URI      string            `yaml:"uri"`       // or both in an RFC 7512 URI: pkcs11:token=…;serial=…
	PIN      PINConfig         `yaml:"pin"`       // where the keeper finds it
	Env      map[string]string `yaml:"env"`       // for the signer processes only
	Signers  signers           `yaml:"signers"`   // processes; auto
	Deadline duration          `yaml:"deadline"`  // one signature; left out: 2s, or what the measured rate wants
	InitArgs string            `yaml:"init_args"` // for modules that want arguments to C_Initialize
	NoLogin  bool              `yaml:"no_login"`  // the token knows no login
	Sessions int               `yaml:"sessions"`  // that may be open at a time; left out: what the token reports
	RateCap  int               `yaml:"rate_cap"`  // signatures a second of one process; left out: 100000
	Waive    []WaiverConfig    `yaml:"waive"`     // findings of the gate that a key may sign in spite of
	Clones   []string          `yaml:"clones"`    // other tokens of this file that hold the same keys
}

// WaiverConfig lets a key sign in spite of an attribute that is not as demanded. status shows it for ever.
type WaiverConfig struct {
	Key       string `yaml:"key"`       // its label
	Attribute string `yaml:"attribute"` // CKA_…
	Reason    string `yaml:"reason"`
}

// PINConfig says where the PIN is: exactly one of them.
type PINConfig struct {
	File          string `yaml:"file"`
	Credential    string `yaml:"credential"` // systemd
	Prompt        bool   `yaml:"prompt"`
	ProtectedPath bool   `yaml:"protected_path"`
}

// duration is a time.Duration in Go's notation.
type duration time.Duration

func (d *duration) UnmarshalYAML(b []byte) error {
	v, err := time.ParseDuration(unquote(b))
	if err == nil && v <= 0 {
		err = errors.New("must be longer than 0")
	}
	*d = duration(v)
	return err
}

// signers is a number of processes; 0 is auto.
type signers int

func (s *signers) UnmarshalYAML(b []byte) error {
	text := unquote(b)
	if text == "auto" {
		*s = 0
		return nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > 256 {
		return fmt.Errorf("signers: %q is neither auto nor a number from 1 to 256", text)
	}
	*s = signers(n)
	return nil
}

func unquote(b []byte) string {
	s := strings.TrimSpace(string(b))
	if u, err := strconv.Unquote(s); err == nil {
		return u
	}
	return s
}

// defaultConfigs are the places looked at, in order, where neither -c nor CERTMILL_CONFIG names a file.
var defaultConfigs = []string{"certmill.yaml", "/etc/certmill/certmill.yaml"}

// configPath decides which file is meant.
func (e *env) configPath() (string, error) {
	if e.config != "" {
		return e.config, nil
	}
	if p := e.getenv("CERTMILL_CONFIG"); p != "" {
		return p, nil
	}
	for _, p := range defaultConfigs {
		if _, err := os.Stat(p); err == nil {
			return p, nil
		}
	}
	return "", fail(exitConfig, "name one with -c FILE, or start with: certmill quickstart, or: certmill init --dir D",
		"no configuration: looked at %v", defaultConfigs)
}

// loadConfig reads and checks the configuration.
func (e *env) loadConfig() (*Config, error) {
	path, err := e.configPath()
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fail(exitConfig, "check the path given with -c", "read configuration: %w", err)
	}
	c, err := parseConfig(data)
	if err != nil {
		return nil, fail(exitConfig, "", "%s: %w", path, err)
	}
	if c.dir, err = filepath.Abs(filepath.Dir(path)); err != nil {
		return nil, fail(exitConfig, "", "%s: %w", path, err)
	}
	return c, nil
}

// parseConfig decodes and checks; it touches no other file.
func parseConfig(data []byte) (*Config, error) {
	c := &Config{}
	if err := strictyaml.Decode(data, c); err != nil {
		return nil, err
	}
	if c.Version != 1 {
		return nil, fmt.Errorf("version: %d is not known; this build reads version 1", c.Version)
	}
	setDefault(&c.Ledger.Bbolt, "ledger/ledger.db")
	setDefault(&c.State, "state")
	setDefault(&c.Node, "certmill")
	setDefault(&c.Listen.Admin, "run/admin.sock")
	setDefault(&c.Listen.TLSMin, "1.3")
	if c.Listen.TLSMin != "1.3" && c.Listen.TLSMin != "1.2" {
		return nil, fmt.Errorf("listen.tls_min: %q is neither \"1.3\" nor \"1.2\"", c.Listen.TLSMin)
	}
	if within(filepath.Dir(c.Ledger.Bbolt), c.State) {
		return nil, fmt.Errorf("state: %q lies inside the ledger's folder; it must not go back with the ledger when that is restored", c.State)
	}
	for name, t := range c.Tokens {
		if err := t.check(); err != nil {
			return nil, fmt.Errorf("tokens.%s.%w", name, err)
		}
		c.Tokens[name] = t
	}
	return c, c.checkClones()
}

// check completes and judges one token.
func (t *TokenConfig) check() error {
	if t.URI != "" {
		if t.Token != "" || t.Serial != "" {
			return errors.New("uri: give either uri, or token, or serial")
		}
		var err error
		if t.Token, t.Serial, err = parsePKCS11URI(t.URI); err != nil {
			return err
		}
	}
	switch {
	case t.Module == "":
		return errors.New("module: missing: the path of the PKCS#11 module, such as /usr/lib/softhsm/libsofthsm2.so")
	case t.Token == "" && t.Serial == "":
		return errors.New("token: missing: give token (its label), serial or uri")
	}
	for _, w := range t.Waive {
		if w.Key == "" || w.Attribute == "" || w.Reason == "" {
			return errors.New("waive: each entry has key, attribute and reason")
		}
	}
	given := 0
	for _, is := range []bool{t.PIN.File != "", t.PIN.Credential != "", t.PIN.Prompt, t.PIN.ProtectedPath} {
		if is {
			given++
		}
	}
	if t.NoLogin && given == 0 {
		return nil
	}
	if given != 1 || t.NoLogin {
		return errors.New("pin: give exactly one of file, credential, prompt, protected_path; none with no_login")
	}
	return nil
}

// checkClones refuses clones that are not there, or have clones themselves.
func (c *Config) checkClones() error {
	for name, t := range c.Tokens {
		for _, clone := range t.Clones {
			other, there := c.Tokens[clone]
			if !there || clone == name || len(other.Clones) > 0 {
				return fmt.Errorf("tokens.%s.clones: %q is no other token of this file, or has clones itself", name, clone)
			}
		}
	}
	return nil
}

// parsePKCS11URI takes token label and serial from a URI (RFC 7512 section 2.3). Other attributes are refused: they would promise
// what nothing here looks at.
func parsePKCS11URI(uri string) (label, serial string, err error) {
	rest, ok := strings.CutPrefix(uri, "pkcs11:")
	if !ok {
		return "", "", fmt.Errorf("uri: %q: want pkcs11: and attributes", uri)
	}
	if _, query, there := strings.Cut(rest, "?"); there { // it was taken for a piece of the last attribute
		return "", "", fmt.Errorf("uri: %q is not used here: module and PIN have keys of their own", "?"+query)
	}
	for attribute := range strings.SplitSeq(rest, ";") {
		name, value, _ := strings.Cut(attribute, "=")
		if value, err = url.PathUnescape(value); err != nil {
			return "", "", fmt.Errorf("uri: %w", err)
		}
		switch name {
		case "token":
			label = value
		case "serial":
			serial = value
		default:
			return "", "", fmt.Errorf("uri: attribute %q is not used here; token and serial are", name)
		}
	}
	return label, serial, nil
}

func setDefault(s *string, value string) {
	if *s == "" {
		*s = value
	}
}

// within reports whether path lies in dir or is dir.
func within(dir, path string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && dir != "." && filepath.IsLocal(rel)
}

// path resolves a path of the configuration.
func (c *Config) path(p string) string {
	if filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(c.dir, p)
}

// waivers are those of a token's key.
func (c *Config) waivers(token, label string) (all []hsm.Waiver) {
	for _, w := range c.Tokens[token].Waive {
		if w.Key == label {
			all = append(all, hsm.Waiver(w))
		}
	}
	return all
}

// tokenConfig is what hsm needs to open a token by its name in the configuration.
func (c *Config) tokenConfig(name string) (hsm.Config, error) {
	t, ok := c.Tokens[name]
	if !ok {
		return hsm.Config{}, fail(exitConfig, "add it under tokens:", "token %q is not in the configuration", name)
	}
	h := hsm.Config{
		Name:          name,
		Module:        t.Module,
		InitArgs:      t.InitArgs,
		NoLogin:       t.NoLogin,
		Sessions:      t.Sessions,
		RateCap:       t.RateCap,
		PINMemory:     c.path(filepath.Join(c.State, "pin-"+name+".json")),
		Token:         t.Token,
		Serial:        t.Serial,
		PIN:           hsm.PIN{Credential: t.PIN.Credential, Prompt: t.PIN.Prompt, ProtectedPath: t.PIN.ProtectedPath},
		Dir:           c.dir,
		Signers:       int(t.Signers),
		Deadline:      time.Duration(t.Deadline),
		Command:       []string{"/proc/self/exe", childKeeper},
		SignerCommand: []string{"/proc/self/exe", childSigner},
	}
	if t.PIN.File != "" {
		h.PIN.File = c.path(t.PIN.File)
	}
	for k, v := range t.Env {
		h.Env = append(h.Env, k+"="+v)
	}
	for _, clone := range t.Clones {
		other, err := c.tokenConfig(clone)
		if err != nil {
			return h, err
		}
		h.Clones = append(h.Clones, other)
	}
	return h, nil
}
