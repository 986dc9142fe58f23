package ledger

import (
	"strings"
	"testing"

	"github.com/certmill/certmill/internal/ledger/internal/fault"
)

// What stands twice is found without the indexes, which here agree with whatever is claimed.
func TestDistinct(t *testing.T) {
	for _, test := range []struct {
		name string
		do   func(x *tampered)
		want string
	}{
		{"nothing", func(*tampered) {}, ""},
		{"a claim", func(x *tampered) { x.change(4, func(e *Entry) { e.Claims = []Claim{{"key", "k1"}} }) }, "entries 3 and 4 both hold a claim in key"},
		{"an equal key in another space", func(x *tampered) { x.change(4, func(e *Entry) { e.Claims = []Claim{{"device", "k1"}} }) }, ""},
		{"a closing", func(x *tampered) { x.change(7, func(e *Entry) { e.Closes = 3 }) }, "entries 5 and 7 both hold the closing of entry 3"},
	} {
		cfg := sample(t)
		tamper(t, cfg, test.do)
		l, err := open(cfg.withDefaults(), storeOptions())
		if err != nil {
			t.Fatal(err)
		}
		err = l.View(func(v *View) error { return checkDistinct(v, 0, func(uint64) {}) })
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", test.name, err, test.want)
		}
		l.Close()
	}
}

// Who watches a check hears of every entry twice: once as it is walked, once as it is sorted.
func TestCheckWith(t *testing.T) {
	l := openTest(t, sample(t), fault.Points{})
	var last, calls uint64
	if err := l.CheckWith(func(n uint64) { last, calls = n, calls+1 }); err != nil || last != 2*l.Checkpoint().Size || calls < 2 {
		t.Errorf("%v; told %d times, of %d at last, want %d", err, calls, last, 2*l.Checkpoint().Size)
	}
}

func TestCheckPages(t *testing.T) {
	cfg := sample(t)
	if err := CheckPages(cfg.Path); err != nil {
		t.Error(err)
	}
	l := openTest(t, cfg, fault.Points{})
	if err := CheckPages(cfg.Path); err == nil || !strings.Contains(err.Error(), ErrInUse.Error()) {
		t.Errorf("beside a writer: %v", err)
	}
	l.Close()
}
