package issuer

import (
	"encoding/hex"
	"fmt"

	"github.com/certmill/certmill/ca"
	"github.com/certmill/certmill/internal/ledger"
)

// profileClaim names a version of a profile by its content.
func profileClaim(hash string) ledger.Claim { return ledger.Claim{Space: claimProfile, Key: hash} }

// recordProfile keeps a version of a profile for ever, once.
func recordProfile(tx *ledger.Tx, p *ca.Profile) error {
	claim := profileClaim(p.Hash())
	if _, held := tx.Claimed(claim); held {
		return nil
	}
	_, err := put(tx, ledger.Draft{Kind: entryProfile, Payload: p.Source(), Claims: []ledger.Claim{claim}})
	return err
}

// profileVersion finds the version with a hash: in the configuration, or as an order recorded it.
func (i *Issuer) profileVersion(v *ledger.View, hash string) (*ca.Profile, error) {
	if p := i.versions[hash]; p != nil {
		return p, nil
	}
	index, held := v.Claimed(profileClaim(hash))
	if !held {
		return nil, fmt.Errorf("profile %s is neither configured nor recorded", hash)
	}
	e, err := get(v, index)
	if err != nil {
		return nil, err
	}
	p, err := ca.ParseProfile(e.Payload)
	if err != nil {
		return nil, fmt.Errorf("profile of entry %d: %w", index, err)
	}
	if p.Hash() != hash {
		return nil, fmt.Errorf("profile of entry %d has the hash %s, not %s", index, p.Hash(), hash)
	}
	i.versions[hash] = p // only New gets here: whatever is loaded later is of the configuration
	return p, nil
}

// profileHash is a profile's hash as intents keep it.
func profileHash(p *ca.Profile) []byte {
	b, err := hex.DecodeString(p.Hash())
	if err != nil {
		panic("issuer: profile hash: " + err.Error()) // it is hex by its definition
	}
	return b
}
