package ca

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	der "golang.org/x/crypto/cryptobyte/asn1"
)

// A weak key is refused before anybody asks who holds it, with a reason that says what is wrong with it. Each has a signature that verifies.
func TestWeakKeysAreRefusedWithTheirReason(t *testing.T) {
	for name, want := range map[string]string{
		"weak-rsa2048-exponent-3":       "RSA exponent 3, accepted are odd ones from 65537",
		"weak-rsa2048-exponent-large":   "RSA exponent 4294967311, accepted are odd ones",
		"weak-rsa2047":                  "RSA modulus of 2047 bits",
		"weak-rsa1024":                  "RSA modulus of 1024 bits",
		"weak-rsa5120":                  "RSA modulus of 5120 bits",
		"weak-rsa2048-close-primes":     "Fermat's method factors it",
		"weak-rsa2048-next-prime":       "Fermat's method factors it",
		"weak-rsa2048-roca":             "ROCA (CVE-2017-15361)",
		"weak-rsa2048-small-factor":     "a prime below 752 divides",
		"weak-p256-private-key-1":       "its private key is the number 1",
		"weak-p256-private-key-minus-2": "its private key is the number 2 or its negative",
		"weak-p384-private-key-7":       "its private key is the number 7",
		"weak-ED25519":                  "algorithm 1.3.101.112, accepted are EC (P-256, P-384) and RSA",
		"weak-P-521":                    "its curve is neither P-256 nor P-384",
	} {
		_, err := ParseRequest(openSSLRequests(t)[name])
		if !errors.Is(err, ErrWeakKey) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", name, err, want)
		}
	}
}

// Keys that somebody else published for this purpose.
func TestPublishedROCAKeys(t *testing.T) {
	paths, err := filepath.Glob("testdata/keys/*.pem")
	if err != nil || len(paths) < 6 {
		t.Fatalf("%d keys, %v", len(paths), err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(text)
		_, err = parseKey(block.Bytes)
		if strings.HasPrefix(filepath.Base(path), "good") == (err != nil) || err != nil && !strings.Contains(err.Error(), "ROCA") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// Moduli and exponents that no tool makes a CSR of.
func TestForgedRSAKeys(t *testing.T) {
	good, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	n, e := good.N, big.NewInt(65537)
	p := bigPrime(t, 1024)
	square := new(big.Int).Mul(p, p)
	for _, c := range []struct {
		name, want string
		n, e       *big.Int
		err        error
	}{
		{"good", "", n, e, nil},
		{"largest exponent", "", n, big.NewInt(1<<31 - 1), nil},
		{"even exponent", "RSA exponent 65538", n, big.NewInt(65538), ErrWeakKey},
		{"exponent of one", "RSA exponent 1,", n, big.NewInt(1), ErrWeakKey},
		{"exponent below", "RSA exponent 65535", n, big.NewInt(65535), ErrWeakKey},
		{"exponent past 31 bits", "RSA exponent 2147483649", n, big.NewInt(1<<31 + 1), ErrWeakKey},
		{"exponent as long as the modulus", "…, accepted are", n, new(big.Int).Sub(n, big.NewInt(2)), ErrWeakKey},
		{"negative exponent", "not positive", n, big.NewInt(-65537), ErrMalformed},
		{"negative modulus", "not positive", new(big.Int).Neg(n), e, ErrMalformed},
		{"modulus of zero", "not positive", new(big.Int), e, ErrMalformed},
		{"even modulus", "RSA modulus is even", new(big.Int).Xor(n, big.NewInt(1)), e, ErrWeakKey},
		{"the square of a prime", "Fermat", square, e, ErrWeakKey},
		{"divided by 751", "a prime below 752", multipleOf(751), e, ErrWeakKey},
		{"divided by 3", "a prime below 752", multipleOf(3), e, ErrWeakKey},
	} {
		_, err := parseKey(rsaSPKI(c.n, c.e))
		if !errors.Is(err, c.err) || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %v with %q", c.name, err, c.err, c.want)
		}
	}
	for _, bits := range [][]byte{nil, {0x30, 0}, x509.MarshalPKCS1PublicKey(&good.PublicKey)[:200]} {
		if _, err := parseKey(rsaBits(bits)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%x…: error %v", bits[:min(8, len(bits))], err)
		}
	}
}

// What a good generator makes is taken: the tests for weakness have no opinion about it.
func TestGoodKeysAreTaken(t *testing.T) {
	for _, kind := range []string{keyP256, keyP384, "rsa2048"} {
		for range 5 {
			if _, err := newPublicKey(newKey(t, kind).Public()); err != nil {
				t.Errorf("%s: %v", kind, err)
			}
		}
	}
}

func TestMaybeSquareMissesNone(t *testing.T) {
	for n := int64(1); n < 20_000; n++ {
		if !maybeSquare(big.NewInt(n * n)) {
			t.Fatalf("%d is not taken for a square", n*n)
		}
	}
}

func bigPrime(t *testing.T, bits int) *big.Int {
	t.Helper()
	p, err := rand.Prime(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// multipleOf is an odd number of 2048 bits that a prime divides.
func multipleOf(p int64) *big.Int {
	n := new(big.Int).Div(new(big.Int).Lsh(big.NewInt(1), 2048), big.NewInt(p)) // the largest there is
	return n.Sub(n, big.NewInt(2)).SetBit(n, 0, 1).Mul(n, big.NewInt(p))
}

func rsaSPKI(n, e *big.Int) []byte {
	b := cryptobyte.NewBuilder(nil)
	b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1BigInt(n)
		b.AddASN1BigInt(e)
	})
	return rsaBits(b.BytesOrPanic())
}

func rsaBits(bits []byte) []byte {
	b := cryptobyte.NewBuilder(nil)
	b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
			addOID(b, oidRSA)
			b.AddASN1NULL()
		})
		b.AddASN1BitString(bytes.Clone(bits))
	})
	return b.BytesOrPanic()
}

// What the tests for weakness cost, beside proof of possession (BenchmarkParseRequest): nothing for EC.
func BenchmarkParseKey(b *testing.B) {
	for _, kind := range []string{keyP256, keyP384, "rsa2048", "rsa4096"} {
		key, err := sampleKey(kind)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(kind, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := parseKey(key.spki); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
