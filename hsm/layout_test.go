package hsm

import (
	"testing"
	"time"
)

func TestLayout(t *testing.T) {
	softHSM, network := Measured{50 * time.Microsecond, 49 * time.Microsecond}, Measured{5 * time.Millisecond, 200 * time.Microsecond}
	for _, c := range []struct {
		name string
		r    resources
		want layout
	}{
		{"SoftHSM on two cores", resources{cores: 2, measured: softHSM}, layout{2, 1}},
		{"SoftHSM on sixteen cores", resources{cores: 16, measured: softHSM}, layout{4, 4}},
		{"not measured", resources{cores: 2}, layout{2, 1}},
		{"network, no limit known", resources{cores: 2, measured: network}, layout{2, 32}},
		{"network, 32 sessions", resources{cores: 2, sessions: 32, measured: network}, layout{2, 15}},
		{"YubiHSM 2: 16 sessions", resources{cores: 4, sessions: 16, measured: network}, layout{4, 3}},
		{"4 sessions", resources{cores: 2, sessions: 4, measured: network}, layout{2, 1}},
		{"3 sessions", resources{cores: 2, sessions: 3, measured: network}, layout{1, 2}},
		{"2 sessions", resources{cores: 2, sessions: 2, measured: network}, layout{1, 1}},
		{"one process as configured", resources{cores: 2, signers: 1, sessions: 32, measured: network}, layout{1, 31}},
		{"a slow processor's own work", resources{cores: 2, measured: Measured{5 * time.Millisecond, 4900 * time.Microsecond}}, layout{2, 1}},
	} {
		if got := c.r.plan(); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestDeadline(t *testing.T) {
	if d := deadlineFor(0, Measured{}); d != 2*time.Second {
		t.Errorf("not measured: %v", d)
	}
	if d := deadlineFor(0, Measured{Wall: time.Second}); d != 20*time.Second {
		t.Errorf("one second a signature: %v", d)
	}
	if d := deadlineFor(300*time.Millisecond, Measured{Wall: time.Second}); d != 300*time.Millisecond {
		t.Errorf("as configured: %v", d)
	}
}
