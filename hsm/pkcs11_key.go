//go:build cgo && linux

package hsm

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"github.com/miekg/pkcs11"
)

// keyRef is a private key in the token.
type keyRef struct {
	handle pkcs11.ObjectHandle
	label  string
	id     []byte
	paired bool // there is a public key with this CKA_ID: what crypto11 wants beside a private one
}

// find finds the one private key with a label, and everything that the gate wants to know of it.
func (t *pkcs11Token) find(label string) (ref keyRef, f facts, err error) {
	err = t.withSession(func(s pkcs11.SessionHandle) error {
		handles, err := t.search(s, pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY), pkcs11.NewAttribute(pkcs11.CKA_LABEL, label))
		if err != nil {
			return fmt.Errorf("look for key %s: %w", label, err)
		}
		if len(handles) != 1 {
			return &failure{Code: codeNoKey, Text: fmt.Sprintf("%d keys with the label %s in the token", len(handles), label)}
		}
		ref = keyRef{handle: handles[0], label: label, id: t.attribute(s, handles[0], pkcs11.CKA_ID)}
		if len(ref.id) > 0 {
			halves, err := t.search(s, pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY), pkcs11.NewAttribute(pkcs11.CKA_ID, ref.id))
			ref.paired = err == nil && len(halves) > 0
		}
		f = t.facts(s, ref)
		return nil
	})
	return ref, f, err
}

// search lists the objects that match a template.
func (t *pkcs11Token) search(s pkcs11.SessionHandle, template ...*pkcs11.Attribute) (found []pkcs11.ObjectHandle, err error) {
	if err := t.raw.FindObjectsInit(s, template); err != nil {
		return nil, err
	}
	for {
		some, _, err := t.raw.FindObjects(s, 16)
		if err != nil || len(some) == 0 {
			return found, errors.Join(err, t.raw.FindObjectsFinal(s))
		}
		found = append(found, some...)
	}
}

// attribute asks for one attribute: a module that does not know one of several answers none. nil: not offered.
func (t *pkcs11Token) attribute(s pkcs11.SessionHandle, o pkcs11.ObjectHandle, typ uint) []byte {
	a, err := t.raw.GetAttributeValue(s, o, []*pkcs11.Attribute{pkcs11.NewAttribute(typ, nil)})
	if err != nil || len(a) != 1 {
		return nil
	}
	return a[0].Value
}

// flagTypes are the attributes of the gate's rules.
var flagTypes = map[string]uint{
	"CKA_SENSITIVE": pkcs11.CKA_SENSITIVE, "CKA_PRIVATE": pkcs11.CKA_PRIVATE, "CKA_EXTRACTABLE": pkcs11.CKA_EXTRACTABLE, "CKA_SIGN": pkcs11.CKA_SIGN,
	"CKA_DECRYPT": pkcs11.CKA_DECRYPT, "CKA_UNWRAP": pkcs11.CKA_UNWRAP, "CKA_DERIVE": pkcs11.CKA_DERIVE, "CKA_WRAP": pkcs11.CKA_WRAP,
	"CKA_ALWAYS_SENSITIVE": pkcs11.CKA_ALWAYS_SENSITIVE, "CKA_NEVER_EXTRACTABLE": pkcs11.CKA_NEVER_EXTRACTABLE, "CKA_LOCAL": pkcs11.CKA_LOCAL,
}

func (t *pkcs11Token) facts(s pkcs11.SessionHandle, k keyRef) facts {
	f := facts{id: k.id, attrs: make(map[string]bool), public: t.public(s, k)}
	for name, typ := range flagTypes {
		if v := t.attribute(s, k.handle, typ); len(v) == 1 {
			f.attrs[name] = v[0] != 0
		}
	}
	if len(k.id) > 0 {
		if same, err := t.search(s, pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY), pkcs11.NewAttribute(pkcs11.CKA_ID, k.id)); err == nil {
			f.sameID = len(same)
		}
	}
	return f
}

// public is the public half, from its own object or from the private key's; nil where the token shows neither.
func (t *pkcs11Token) public(s pkcs11.SessionHandle, k keyRef) crypto.PublicKey {
	for _, by := range []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_ID, k.id), pkcs11.NewAttribute(pkcs11.CKA_LABEL, k.label)} {
		if len(by.Value) == 0 {
			continue
		}
		if found, err := t.search(s, pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY), by); err == nil && len(found) == 1 {
			if p := t.publicOf(s, found[0]); p != nil {
				return p
			}
		}
	}
	return t.publicOf(s, k.handle)
}

// publicOf is the public key that an object shows, of either class.
func (t *pkcs11Token) publicOf(s pkcs11.SessionHandle, o pkcs11.ObjectHandle) crypto.PublicKey {
	if p := curvePoint(t.attribute(s, o, pkcs11.CKA_EC_PARAMS), t.attribute(s, o, pkcs11.CKA_EC_POINT)); p != nil {
		return p
	}
	n, e := t.attribute(s, o, pkcs11.CKA_MODULUS), new(big.Int).SetBytes(t.attribute(s, o, pkcs11.CKA_PUBLIC_EXPONENT))
	if len(n) > 0 && e.Sign() > 0 && e.BitLen() < 32 {
		return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(e.Int64())}
	}
	if p, err := x509.ParsePKIXPublicKey(t.attribute(s, o, pkcs11.CKA_PUBLIC_KEY_INFO)); err == nil {
		return p
	}
	return nil
}

// curves are those a CA may have, with their parameters in DER (RFC 5480, section 2.1.1.1).
var curves = map[Algorithm]struct {
	curve elliptic.Curve
	oid   asn1.ObjectIdentifier
}{
	P256: {elliptic.P256(), asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}},
	P384: {elliptic.P384(), asn1.ObjectIdentifier{1, 3, 132, 0, 34}},
}

// curvePoint reads a point, in an OCTET STRING as PKCS#11 says or bare as some modules do: a bare one may look like an OCTET STRING, and then is none on the
// curve. Parameters that are no object identifier (v3.0 allows a name) are passed over: the point's length and equation tell the curve.
func curvePoint(params, point []byte) crypto.PublicKey {
	var oid asn1.ObjectIdentifier
	if _, err := asn1.Unmarshal(params, &oid); err != nil {
		oid = nil
	}
	points := [][]byte{point}
	var inner []byte
	if rest, err := asn1.Unmarshal(point, &inner); err == nil && len(rest) == 0 {
		points = append(points, inner)
	}
	for _, c := range curves {
		if oid != nil && !c.oid.Equal(oid) {
			continue
		}
		for _, b := range points {
			if p, err := ecdsa.ParseUncompressedPublicKey(c.curve, b); err == nil {
				return p
			}
		}
	}
	return nil
}

// generate makes a key pair that can sign and nothing else, and cannot leave; what the token made of it is held against the gate.
func (t *pkcs11Token) generate(label string, alg Algorithm) (crypto.PublicKey, error) {
	kind, err := t.kindOf(alg)
	if err != nil {
		return nil, err
	}
	var made crypto.PublicKey // as the token showed it at once; some keep no public half
	err = t.withSession(func(s pkcs11.SessionHandle) error {
		if old, err := t.search(s, pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY), pkcs11.NewAttribute(pkcs11.CKA_LABEL, label)); err != nil || len(old) > 0 {
			return errors.Join(err, &failure{Code: codeExists, Text: "a key with the label " + label + " is in the token"})
		}
		ref := keyRef{label: label, id: make([]byte, 16)}
		if _, err := rand.Read(ref.id); err != nil {
			return err
		}
		public, private, err := t.makePair(s, kind, ref)
		if err == nil {
			made = t.publicOf(s, public)
			t.narrow(s, private)
		}
		return err
	})
	if says(err, pkcs11.CKR_MECHANISM_INVALID, pkcs11.CKR_MECHANISM_PARAM_INVALID, pkcs11.CKR_KEY_SIZE_RANGE, pkcs11.CKR_CURVE_NOT_SUPPORTED, pkcs11.CKR_DOMAIN_PARAMS_INVALID) {
		return nil, &failure{Code: codeUnfit, Text: fmt.Sprintf("this token makes no %s keys: %s: %v", alg, mechanismNames[kind.mechanism], err)}
	}
	if err != nil {
		return nil, fmt.Errorf("generate key %s: %w", label, err)
	}
	_, f, err := t.find(label)
	if err != nil {
		return nil, err
	}
	if f.public == nil {
		f.public = made
	}
	if f.public == nil {
		return nil, &failure{Code: codeUnfit, Text: fmt.Sprintf("key %s was made, and the token does not show its public half", label)}
	}
	if err := judge(startKey{Label: label, Backup: BackupClone}, nil, f).fit(); err != nil { // its backup class is judged where it is used
		return nil, err
	}
	return f.public, nil
}

// pairKind is what C_GenerateKeyPair wants for an algorithm.
type pairKind struct {
	mechanism, sign uint
	keyType         uint
	public          []*pkcs11.Attribute
}

// kindOf says no before a key is asked for, where the token has no such keys.
func (t *pkcs11Token) kindOf(alg Algorithm) (k pairKind, err error) {
	if c, ok := curves[alg]; ok {
		params, err := asn1.Marshal(c.oid)
		if err != nil {
			return k, err
		}
		k = pairKind{mechanism: pkcs11.CKM_EC_KEY_PAIR_GEN, sign: pkcs11.CKM_ECDSA, keyType: pkcs11.CKK_EC,
			public: []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, params)}}
	} else if bits, ok := rsaBits[alg]; ok {
		k = pairKind{mechanism: pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN, sign: pkcs11.CKM_RSA_PKCS, keyType: pkcs11.CKK_RSA,
			public: []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_MODULUS_BITS, bits), pkcs11.NewAttribute(pkcs11.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1})}}
	} else {
		return k, &failure{Code: codeUnfit, Text: fmt.Sprintf("algorithm %q is none of p256, p384, rsa2048, rsa3072, rsa4096", alg)}
	}
	if !t.offers(k.mechanism, k.sign) && !(k.keyType == pkcs11.CKK_RSA && t.offers(k.mechanism, pkcs11.CKM_SHA256_RSA_PKCS)) {
		return k, &failure{Code: codeUnfit, Text: fmt.Sprintf("this token makes no %s keys: it does not offer the mechanisms %s", alg, mechanismNames[k.mechanism])}
	}
	bits, largest := rsaBits[alg], t.largest(k.mechanism)
	if c, ok := curves[alg]; ok {
		bits = c.curve.Params().BitSize
	}
	if largest >= 160 && bits > largest { // less is octets, or nothing that a CA could use
		return k, &failure{Code: codeUnfit, Text: fmt.Sprintf("this token makes no %s keys: its %s end at %d bits", alg, mechanismNames[k.mechanism], largest)}
	}
	return k, nil
}

// largest is the key size in bits that a mechanism ends at; 0 where the token does not say.
func (t *pkcs11Token) largest(mechanism uint) int {
	info, err := t.raw.GetMechanismInfo(t.slot, []*pkcs11.Mechanism{pkcs11.NewMechanism(mechanism, nil)})
	if err != nil || info.MaxKeySize > 1<<16 {
		return 0
	}
	if mechanism == pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN && info.MaxKeySize <= 1024 { // octets
		return 8 * int(info.MaxKeySize)
	}
	return int(info.MaxKeySize)
}

var rsaBits = map[Algorithm]int{RSA2048: 2048, RSA3072: 3072, RSA4096: 4096}

var mechanismNames = map[uint]string{
	pkcs11.CKM_EC_KEY_PAIR_GEN: "CKM_EC_KEY_PAIR_GEN and CKM_ECDSA", pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN: "CKM_RSA_PKCS_KEY_PAIR_GEN and CKM_RSA_PKCS",
}

// makePair makes a key pair, in the token where ref has a label, else for as long as the session lasts. Modules differ in what they let a template say: one that
// refuses is asked again with less, or with a shorter CKA_ID (a YubiHSM's has two octets), and the gate has the last word.
func (t *pkcs11Token) makePair(s pkcs11.SessionHandle, k pairKind, ref keyRef) (public, private pkcs11.ObjectHandle, err error) {
	a := pkcs11.NewAttribute
	inToken := ref.label != ""
	pub := append([]*pkcs11.Attribute{a(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY), a(pkcs11.CKA_KEY_TYPE, k.keyType), a(pkcs11.CKA_TOKEN, inToken)}, k.public...)
	priv := []*pkcs11.Attribute{a(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY), a(pkcs11.CKA_KEY_TYPE, k.keyType), a(pkcs11.CKA_TOKEN, inToken), a(pkcs11.CKA_PRIVATE, true),
		a(pkcs11.CKA_SENSITIVE, true), a(pkcs11.CKA_SIGN, true)}
	names := [][]*pkcs11.Attribute{nil}
	if inToken {
		label := a(pkcs11.CKA_LABEL, ref.label)
		names = [][]*pkcs11.Attribute{{label, a(pkcs11.CKA_ID, ref.id)}, {label, a(pkcs11.CKA_ID, ref.id[:2])}, {label}}
	}
	verify := []*pkcs11.Attribute{a(pkcs11.CKA_VERIFY, true)}
	stays := []*pkcs11.Attribute{a(pkcs11.CKA_EXTRACTABLE, false)}
	signsOnly := append(stays, a(pkcs11.CKA_DECRYPT, false), a(pkcs11.CKA_UNWRAP, false), a(pkcs11.CKA_DERIVE, false))
	extras := []struct{ public, private []*pkcs11.Attribute }{{verify, signsOnly}, {nil, signsOnly}, {verify, stays}, {nil, stays}, {verify, nil}, {nil, nil}}
	for _, name := range names {
		for _, more := range extras {
			public, private, err = t.raw.GenerateKeyPair(s, []*pkcs11.Mechanism{pkcs11.NewMechanism(k.mechanism, nil)}, slices.Concat(pub, name, more.public), slices.Concat(priv, name, more.private))
			if !says(err, templateCodes...) {
				return public, private, err
			}
		}
		if says(err, pkcs11.CKR_GENERAL_ERROR) {
			break // it need not be the template
		}
	}
	return public, private, err
}

// narrow takes from a new key what the template could not say. Where the module refuses that too, the gate refuses the key.
func (t *pkcs11Token) narrow(s pkcs11.SessionHandle, key pkcs11.ObjectHandle) {
	for _, use := range []uint{pkcs11.CKA_DECRYPT, pkcs11.CKA_UNWRAP, pkcs11.CKA_DERIVE} {
		if v := t.attribute(s, key, use); len(v) == 1 && v[0] != 0 {
			t.raw.SetAttributeValue(s, key, []*pkcs11.Attribute{pkcs11.NewAttribute(use, false)})
		}
	}
}

// templateCodes are what modules say of a template that they do not take.
var templateCodes = []uint{pkcs11.CKR_TEMPLATE_INCONSISTENT, pkcs11.CKR_ATTRIBUTE_TYPE_INVALID, pkcs11.CKR_ATTRIBUTE_VALUE_INVALID, pkcs11.CKR_ATTRIBUTE_READ_ONLY,
	pkcs11.CKR_ARGUMENTS_BAD, pkcs11.CKR_FUNCTION_FAILED, pkcs11.CKR_GENERAL_ERROR}

// says reports whether a module answered with one of some codes.
func says(err error, codes ...uint) bool {
	var code pkcs11.Error
	return errors.As(err, &code) && slices.Contains(codes, uint(code))
}
