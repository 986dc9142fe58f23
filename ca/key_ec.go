package ca

import (
	"crypto/ecdh"
	"fmt"
	"sync"
)

// guessable is how many private keys from 1 on are refused: what a generator without randomness, or a test that was left in, makes.
const guessable = 256

// guessableKeys holds the x coordinates of the points that belong to the private keys 1 to guessable; −k has that of k.
var guessableKeys = sync.OnceValue(func() map[string]int {
	all := make(map[string]int, 2*guessable)
	for _, c := range []struct {
		curve  ecdh.Curve
		octets int
	}{{ecdh.P256(), 32}, {ecdh.P384(), 48}} {
		for k := 1; k <= guessable; k++ {
			scalar := make([]byte, c.octets)
			scalar[c.octets-2], scalar[c.octets-1] = byte(k>>8), byte(k)
			key, err := c.curve.NewPrivateKey(scalar)
			if err != nil {
				panic("ca: private key of a small number: " + err.Error()) // every one below the order is a key
			}
			all[string(key.PublicKey().Bytes()[1:1+c.octets])] = k
		}
	}
	return all
})

// checkEC refuses EC keys whose private half anybody guesses. The caller knows that point is one of the curve, uncompressed: that parse was
// NIST SP 800-56A 5.6.2.3.3, and the curves have no subgroup that it would have to be kept out of.
func checkEC(point []byte) error {
	if k, found := guessableKeys()[string(point[1:1+len(point)/2])]; found {
		return fmt.Errorf("%w: its private key is the number %d or its negative, which anybody tries first: the device makes keys without randomness", ErrWeakKey, k)
	}
	return nil
}
