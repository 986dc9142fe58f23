package issuer

import (
	"fmt"

	"github.com/certmill/certmill/internal/ledger"
)

// recover takes up the intents that were left open. They go the way that fresh ones go from here on: the same TBS, the same signer, the same commit.
// One that cannot be taken up stays open, and is seen: in the log and in OpenIntents.
func (o *owner) recover() error {
	err := o.ledger.View(func(v *ledger.View) error {
		for index := range v.Open() {
			e, err := get(v, index)
			if err != nil {
				return err
			}
			if e.Kind != entryIntent {
				continue
			}
			j, err := o.reopen(v, index)
			if err != nil {
				o.log.Error("an open intent cannot be taken up", "intent", index, "err", err)
				continue
			}
			o.begin(j)
		}
		return nil
	})
	if len(o.open) > 0 {
		o.log.Info("signing what the last run left open", "intents", len(o.open))
	}
	return err
}

// reopen makes a job of an intent on disk. The TBS is checked once more, by rules that may have become stricter.
func (o *owner) reopen(v *ledger.View, index uint64) (*job, error) {
	in, err := intentAt(v, index)
	if err != nil {
		return nil, err
	}
	l := o.lanes[in.ca]
	if l == nil {
		return nil, fmt.Errorf("CA %s is not among those that sign here", in.ca)
	}
	prepared, err := l.authority.Redeem(in.kind, in.tbs)
	if err != nil {
		return nil, err
	}
	s := prepared.Serial()
	if epoch := uint16(s[2])<<8 | uint16(s[3]); epoch != o.ledger.Epoch() {
		return nil, fmt.Errorf("it was made in epoch %d, this is epoch %d: nothing of before a rollback is signed after it", epoch, o.ledger.Epoch())
	}
	return &job{index: index, intent: in, prepared: prepared, lane: l}, nil
}

// countOpen counts the intents without a signature.
func countOpen(v *ledger.View) (n int64, err error) {
	for index := range v.Open() {
		e, err := get(v, index)
		if err != nil {
			return 0, err
		}
		if e.Kind == entryIntent {
			n++
		}
	}
	return n, nil
}
