package ca

import (
	"testing"
	"time"
)

func TestValidityWindow(t *testing.T) {
	endCA := time.Date(2056, 11, 24, 8, 0, 0, 0, time.UTC)
	leap := time.Date(2028, 2, 29, 12, 0, 0, 999, time.FixedZone("", 3600))
	for _, c := range []struct {
		config      ValidityConfig
		now         time.Time
		begin, last string
	}{
		{ValidityConfig{Duration: "20y", Backdate: "5m"}, now, "2026-11-24T08:25:15Z", "2046-11-24T08:30:15Z"},
		{ValidityConfig{Duration: "90d", Backdate: "0s"}, now, "2026-11-24T08:30:15Z", "2027-02-22T08:30:15Z"},
		{ValidityConfig{Duration: "12h", Backdate: "24h"}, now, "2026-11-23T08:30:15Z", "2026-11-24T20:30:15Z"},
		{ValidityConfig{Duration: "30m", Backdate: "1s"}, now, "2026-11-24T08:30:14Z", "2026-11-24T09:00:15Z"},
		{ValidityConfig{Duration: "1y", Backdate: "500ms"}, leap, "2028-02-29T10:59:59Z", "2029-03-01T11:00:00Z"},
		{ValidityConfig{NotAfter: "9999-12-31T23:59:59Z", Backdate: "5m"}, now, "2026-11-24T08:25:15Z", "9999-12-31T23:59:59Z"},
		{ValidityConfig{NotAfter: "2040-01-01T02:00:00+02:00", Backdate: "5m"}, now, "2026-11-24T08:25:15Z", "2040-01-01T00:00:00Z"},
		{ValidityConfig{NotAfter: "ca", Backdate: "5m"}, now, "2026-11-24T08:25:15Z", "2056-11-24T08:00:00Z"},
	} {
		v, err := newValidity(c.config)
		if err != nil {
			t.Errorf("%+v: %v", c.config, err)
			continue
		}
		begin, last := v.window(c.now, endCA)
		if b, l := begin.Format(time.RFC3339Nano), last.Format(time.RFC3339Nano); b != c.begin || l != c.last {
			t.Errorf("%+v: %s to %s, want %s to %s", c.config, b, l, c.begin, c.last)
		}
	}
}
