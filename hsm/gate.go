package hsm

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"fmt"
	"slices"
	"strings"
)

// Backup says how a key is backed up. It is fixed when the key is made.
type Backup string

// The classes of backup. With BackupNone the key has never left its token and never will.
const (
	BackupNone    Backup = "none"
	BackupClone   Backup = "vendor-clone" // the vendor's own cloning, from token to token
	BackupWrapped Backup = "wrapped"      // under a wrapping key of the token
)

// Waiver lets a key sign in spite of one finding. It stands in the configuration and is shown by status for ever.
type Waiver struct {
	Key       string // label
	Attribute string // as in Finding
	Reason    string
}

// Level of a finding.
type Level string

// The levels of a finding. Only LevelFail keeps a key from being used.
const (
	LevelOK      Level = "ok"
	LevelUnknown Level = "unknown" // the token does not report it
	LevelWarn    Level = "warn"
	LevelWaived  Level = "waived"
	LevelFail    Level = "fail"
)

// Finding is what the gate says of one attribute of one key.
type Finding struct {
	Attribute string `json:"attribute"` // CKA_… (PKCS#11 v2.40, section 4)
	Level     Level  `json:"level"`
	Text      string `json:"text"`
	Reason    string `json:"reason,omitempty"` // of the waiver
}

// KeyReport is what a token says of a key, and what the gate says of that.
type KeyReport struct {
	Label    string          `json:"label"`
	ID       string          `json:"id"`   // CKA_ID in hex
	Kind     string          `json:"kind"` // as the token reports it: EC P-256, RSA 2048
	Backup   Backup          `json:"backup,omitempty"`
	Reported map[string]bool `json:"reported"` // attributes that the token reports
	Findings []Finding       `json:"findings"` // what is not LevelOK
}

// startKey is a KeyConfig on the wire.
type startKey struct {
	Label   string
	SPKI    []byte
	Policy  []byte
	Backup  Backup
	Waivers []Waiver
}

// facts is what a token says of a private key.
type facts struct {
	id     []byte
	public crypto.PublicKey // nil where the token does not tell
	attrs  map[string]bool  // only what the token reports
	sameID int              // private keys with this CKA_ID
}

// rule demands one attribute. Which level a breach has may depend on how the key is backed up.
type rule struct {
	attribute string
	want      bool
	breach    func(Backup) Level
	cure      string
}

func always(l Level) func(Backup) Level { return func(Backup) Level { return l } }

// neverLeft is demanded of keys without backup; what a clone or a wrapped backup reports here differs from vendor to vendor (a YubiHSM key that may be
// wrapped reports CKA_NEVER_EXTRACTABLE as false).
func neverLeft(b Backup) Level {
	if b == BackupNone || b == "" {
		return LevelFail
	}
	return LevelWarn
}

// rules are promise P6, attribute by attribute.
var rules = []rule{
	{"CKA_SENSITIVE", true, always(LevelFail), "its value could be read"},
	{"CKA_PRIVATE", true, always(LevelFail), "it could be used without a login"},
	{"CKA_EXTRACTABLE", false, always(LevelFail), "it could be wrapped and taken away"},
	{"CKA_SIGN", true, always(LevelFail), "it cannot sign"},
	{"CKA_DECRYPT", false, always(LevelFail), "a CA's key signs and does nothing else"},
	{"CKA_UNWRAP", false, always(LevelFail), "a CA's key signs and does nothing else"},
	{"CKA_DERIVE", false, always(LevelFail), "a CA's key signs and does nothing else"},
	{"CKA_WRAP", false, always(LevelFail), "a CA's key signs and does nothing else"},
	{"CKA_ALWAYS_SENSITIVE", true, neverLeft, "it was readable once"},
	{"CKA_NEVER_EXTRACTABLE", true, neverLeft, "it could be taken away once, or was imported"},
	{"CKA_LOCAL", true, always(LevelWarn), "it was made elsewhere, or this module says so of every key"},
}

// judge holds what a token reports of a key against the rules, the CA certificate's public key and the waivers.
func judge(k startKey, public crypto.PublicKey, f facts) KeyReport {
	r := KeyReport{Label: k.Label, ID: fmt.Sprintf("%x", f.id), Kind: describe(f.public), Backup: k.Backup, Reported: f.attrs}
	add := func(attribute string, l Level, format string, args ...any) {
		finding := Finding{Attribute: attribute, Level: l, Text: fmt.Sprintf(format, args...)}
		i := slices.IndexFunc(k.Waivers, func(w Waiver) bool { return w.Attribute == attribute })
		if l == LevelFail && i >= 0 {
			finding.Level, finding.Reason = LevelWaived, k.Waivers[i].Reason
		}
		r.Findings = append(r.Findings, finding)
	}
	switch {
	case f.public == nil:
		add("CKA_EC_POINT", LevelUnknown, "the token does not show the public half; every signature is verified with the certificate's")
	case public != nil && !equalKeys(f.public, public):
		// No waiver: this is another key.
		r.Findings = append(r.Findings, Finding{Attribute: "CKA_EC_POINT", Level: LevelFail, Text: fmt.Sprintf("the key in the token is not the CA certificate's (%s)", describe(public))})
	}
	if f.sameID > 1 {
		add("CKA_ID", LevelFail, "%d keys have this CKA_ID: which of them signs is the module's choice", f.sameID)
	}
	for _, rule := range rules {
		is, reported := f.attrs[rule.attribute]
		switch {
		case !reported:
			add(rule.attribute, LevelUnknown, "not reported by this token")
		case is != rule.want:
			add(rule.attribute, rule.breach(k.Backup), "is %v, %v is demanded: %s", is, rule.want, rule.cure)
		}
	}
	return r
}

// fit is nil where nothing keeps the key from signing.
func (r KeyReport) fit() error {
	var no []string
	for _, f := range r.Findings {
		if f.Level == LevelFail {
			no = append(no, f.Attribute+" "+f.Text)
		}
	}
	if no == nil {
		return nil
	}
	return &failure{Code: codeUnfit, Text: fmt.Sprintf("key %s: %s. Make a new key at a ceremony, or waive the attribute with a reason in the configuration", r.Label, strings.Join(no, "; "))}
}

func equalKeys(a, b crypto.PublicKey) bool {
	p, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && p.Equal(b)
}

// describe names the kind of a public key.
func describe(p crypto.PublicKey) string {
	switch k := p.(type) {
	case *ecdsa.PublicKey:
		return "EC " + k.Curve.Params().Name
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", k.N.BitLen())
	}
	return "unknown"
}
