package ledger

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// checkDistinct finds claims that two entries hold, and entries that two entries close, from the entries alone: it sorts, and asks no index. It keeps 8 octets of each
// key; only where two of these are equal it reads the entries once more and looks at the keys themselves. How many keys there are is a hint, and no more.
func checkDistinct(v *View, keys uint64, walked func(entries uint64)) error {
	sums := make([]uint64, 0, keys)
	for e, err := range v.Entries(0) {
		if err != nil {
			return err
		}
		for _, k := range exclusive(&e) {
			sums = append(sums, k.sum())
		}
		if (e.Index+1)%1000 == 0 {
			walked(e.Index + 1)
		}
	}
	walked(v.size)
	slices.Sort(sums)
	suspects := make(map[uint64]bool)
	for i, sum := range sums[min(1, len(sums)):] {
		if sum == sums[i] {
			suspects[sum] = true
		}
	}
	if len(suspects) == 0 {
		return nil
	}
	return findTwice(v, suspects)
}

// findTwice looks at the keys whose sums stand twice.
func findTwice(v *View, suspects map[uint64]bool) error {
	first := make(map[only]uint64)
	for e, err := range v.Entries(0) {
		if err != nil {
			return err
		}
		for _, k := range exclusive(&e) {
			if !suspects[k.sum()] {
				continue
			}
			if before, twice := first[k]; twice {
				return fmt.Errorf("entries %d and %d both hold %s, which one alone can", before, e.Index, k.what())
			}
			first[k] = e.Index
		}
	}
	return nil
}

// only is something that one entry alone can hold: a claim, or the closing of an entry.
type only struct {
	claim  Claim
	closes uint64
}

func exclusive(e *Entry) (all []only) {
	for _, c := range e.Claims {
		all = append(all, only{claim: c})
	}
	if e.Closes != 0 {
		all = append(all, only{closes: e.Closes})
	}
	return all
}

func (o only) sum() uint64 {
	if o.closes != 0 { // spread, so that no claim is likely to have it too
		return o.closes * 0x9e3779b97f4a7c15
	}
	return binary.BigEndian.Uint64(claimKey(o.claim))
}

// what leaves out the key, as errors do.
func (o only) what() string {
	if o.closes != 0 {
		return fmt.Sprintf("the closing of entry %d", o.closes)
	}
	return "a claim in " + o.claim.Space
}
