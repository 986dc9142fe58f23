package ca

import (
	"crypto/rsa"
	"fmt"
	"math"
	"math/big"
	"sync"

	"golang.org/x/crypto/cryptobyte"
	der "golang.org/x/crypto/cryptobyte/asn1"
)

// checkRSA refuses, with ErrWeakKey, RSA keys that somebody could factor, or that devices and AWS stumble over. bits is an RSAPublicKey (RFC 8017
// A.1.1). The tests stand in the order of their cost (BenchmarkParseKey).
func checkRSA(bits []byte) error {
	in := cryptobyte.String(bits)
	var pair cryptobyte.String
	n, e := new(big.Int), new(big.Int)
	if !in.ReadASN1(&pair, der.SEQUENCE) || !in.Empty() || !pair.ReadASN1Integer(n) || !pair.ReadASN1Integer(e) || !pair.Empty() {
		return fmt.Errorf("%w: public key is not an RSAPublicKey (RFC 8017 A.1.1)", ErrMalformed)
	}
	size := n.BitLen()
	switch {
	case n.Sign() <= 0 || e.Sign() <= 0:
		return fmt.Errorf("%w: RSA modulus or exponent is not positive", ErrMalformed)
	case size < 2048 || size > 4096: // from 2048: aws-iot-rules CA-32; past 4096 nobody is known to have tried
		return fmt.Errorf("%w: RSA modulus of %d bits, accepted are 2048 to 4096", ErrWeakKey, size)
	case n.Bit(0) == 0:
		return fmt.Errorf("%w: RSA modulus is even: 2 divides it", ErrWeakKey)
	case e.Cmp(big.NewInt(65537)) < 0 || e.Bit(0) == 0 || e.Cmp(big.NewInt(math.MaxInt32)) > 0: // NIST SP 800-56B 6.2; crypto/rsa takes no larger one
		return fmt.Errorf("%w: RSA exponent %s, accepted are odd ones from 65537 to 2147483647", ErrWeakKey, clip(e.String()))
	}
	return checkModulus(n)
}

// checkModulus refuses moduli that are factored with little work.
func checkModulus(n *big.Int) error {
	switch {
	case hasSmallFactor(n):
		return fmt.Errorf("%w: a prime below 752 divides its RSA modulus: it was not made of two primes, the generator is broken", ErrWeakKey)
	case isROCA(n):
		return fmt.Errorf("%w: its RSA modulus has the fingerprint of ROCA (CVE-2017-15361): made by an Infineon chip of 2012 to 2017, and can be factored", ErrWeakKey)
	case hasClosePrimes(n):
		return fmt.Errorf("%w: the primes of its RSA modulus lie too close together: Fermat's method factors it (FIPS 186-5 A.1.3 keeps them 2^%d apart)",
			ErrWeakKey, n.BitLen()/2-100)
	}
	return nil
}

// rsaKind names an RSA key that was checked.
func rsaKind(k *rsa.PublicKey) string { return fmt.Sprintf("rsa%d", k.N.BitLen()) }

// smallPrimes is the product of the odd primes below 752, as the CA/Browser Forum's rules have it (BR 6.1.6).
var smallPrimes = sync.OnceValue(func() *big.Int {
	product := big.NewInt(1)
	for p := int64(3); p < 752; p += 2 {
		if big.NewInt(p).ProbablyPrime(0) {
			product.Mul(product, big.NewInt(p))
		}
	}
	return product
})

func hasSmallFactor(n *big.Int) bool {
	return new(big.Int).GCD(nil, nil, n, smallPrimes()).BitLen() > 1
}

// rocaPrimes are those of the published fingerprint for which the powers of 65537 are not every remainder there is.
func rocaPrimes() [17]int64 {
	return [...]int64{11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157}
}

// rocaRemainders says which remainders a ROCA modulus can leave: its primes are k·M + (65537^a mod M), where M is a product of small primes, so that
// they, and what they make, are a power of 65537 modulo each of those (Nemec and others, "The Return of Coppersmith's Attack", 2017, section 2.2).
var rocaRemainders = sync.OnceValue(func() (table [17][158]bool) {
	for i, p := range rocaPrimes() {
		for r := int64(1); !table[i][r]; r = r * 65537 % p {
			table[i][r] = true
		}
	}
	return table
})

// isROCA reports whether a modulus has the fingerprint. One in 2^27 good ones has it too; its owner makes another key.
func isROCA(n *big.Int) bool {
	var modulus, remainder big.Int
	for i, p := range rocaPrimes() {
		if !rocaRemainders()[i][remainder.Mod(n, modulus.SetInt64(p)).Int64()] {
			return false
		}
	}
	return true
}

// fermatRounds is what is tried: good keys never give in, and the broken generators that are known do in the first rounds
// (CVE-2022-26320). boulder tries 110.
const fermatRounds = 110

// hasClosePrimes looks for n = a² − b² with a just above √n, which is there where the two primes are near each other (or one).
func hasClosePrimes(n *big.Int) bool {
	a := new(big.Int).Sqrt(n)
	square := new(big.Int).Mul(a, a)
	if square.Cmp(n) == 0 {
		return true
	}
	one := big.NewInt(1)
	b2, step, root := new(big.Int), new(big.Int), new(big.Int)
	b2.Sub(square, n)
	for range fermatRounds {
		step.Lsh(a, 1).Add(step, one) // (a+1)² − a²
		b2.Add(b2, step)
		a.Add(a, one)
		if !maybeSquare(b2) {
			continue
		}
		root.Sqrt(b2)
		if root.Mul(root, root).Cmp(b2) == 0 {
			return true
		}
	}
	return false
}

// maybeSquare spares nearly all roots: few numbers leave the remainder of a square by all of these.
func maybeSquare(x *big.Int) bool {
	const squares64 = 1<<0 | 1<<1 | 1<<4 | 1<<9 | 1<<16 | 1<<17 | 1<<25 | 1<<33 | 1<<36 | 1<<41 | 1<<49 | 1<<57
	if squares64>>(x.Bits()[0]&63)&1 == 0 {
		return false
	}
	rest := new(big.Int).Mod(x, big.NewInt(9*5*7*11*13)).Uint64()
	for _, m := range [...]struct{ modulus, squares uint64 }{
		{9, 1<<0 | 1<<1 | 1<<4 | 1<<7}, {5, 1<<0 | 1<<1 | 1<<4}, {7, 1<<0 | 1<<1 | 1<<2 | 1<<4},
		{11, 1<<0 | 1<<1 | 1<<3 | 1<<4 | 1<<5 | 1<<9}, {13, 1<<0 | 1<<1 | 1<<3 | 1<<4 | 1<<9 | 1<<10 | 1<<12},
	} {
		if m.squares>>(rest%m.modulus)&1 == 0 {
			return false
		}
	}
	return true
}
