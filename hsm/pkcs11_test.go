//go:build cgo && linux

package hsm

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/asn1"
	"testing"
)

// A bare point begins with 4, which is also the tag of an OCTET STRING: where the octet behind it happens to be the length of the rest, one in 256 points was
// taken for the other thing, and its key refused.
func TestBarePointThatLooksWrapped(t *testing.T) {
	for {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		bare, err := k.PublicKey.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		wrapped, err := asn1.Marshal(bare)
		if err != nil {
			t.Fatal(err)
		}
		params, err := asn1.Marshal(curves[P256].oid)
		if err != nil {
			t.Fatal(err)
		}
		for _, point := range [][]byte{bare, wrapped} {
			if p, ok := curvePoint(params, point).(*ecdsa.PublicKey); !ok || !p.Equal(&k.PublicKey) {
				t.Fatalf("%x was not read", point)
			}
		}
		if curvePoint(params, bare[:64]) != nil {
			t.Fatal("a point that is cut off was read")
		}
		if bare[1] == 63 {
			return
		}
	}
}
