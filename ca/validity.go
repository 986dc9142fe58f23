package ca

import (
	"fmt"
	"regexp"
	"strconv"
	"time"
)

// endOfCA is validity.not_after for "as long as the CA".
const endOfCA = "ca"

// maxBackdate keeps notBefore well within what a signer takes for new (Policy.Check).
const maxBackdate = 24 * time.Hour

// validity is how long certificates live.
type validity struct {
	backdate time.Duration
	years    int // calendar years and hours after now, where neither fixed nor withCA is set
	hours    time.Duration
	fixed    time.Time
	withCA   bool
}

func newValidity(c ValidityConfig) (v validity, err error) {
	v.backdate, err = time.ParseDuration(c.Backdate)
	switch {
	case err != nil:
		return v, fmt.Errorf("validity.backdate %q: want a duration such as 5m", c.Backdate)
	case v.backdate < 0 || v.backdate > maxBackdate:
		return v, fmt.Errorf("validity.backdate %s is not within 0 and %s", c.Backdate, maxBackdate)
	case (c.Duration == "") == (c.NotAfter == ""):
		return v, fmt.Errorf("validity wants one of duration and not_after")
	case c.NotAfter == endOfCA:
		v.withCA = true
	case c.NotAfter != "":
		v.fixed, err = time.Parse(time.RFC3339, c.NotAfter)
		if err != nil || v.fixed.Nanosecond() != 0 || v.fixed.UTC().Year() > 9999 {
			return v, fmt.Errorf("validity.not_after %q: want a whole second such as 9999-12-31T23:59:59Z, or ca", c.NotAfter)
		}
	default:
		v.years, v.hours, err = parsePeriod(c.Duration)
	}
	return v, err
}

// parsePeriod reads 20y, 90d, 12h or 30m. Years are those of the calendar.
func parsePeriod(text string) (years int, rest time.Duration, err error) {
	m := regexp.MustCompile(`^([1-9][0-9]{0,6})(y|d|h|m)$`).FindStringSubmatch(text)
	if m == nil {
		return 0, 0, fmt.Errorf("validity.duration %q: want a number and y, d, h or m, such as 20y", text)
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		return 0, 0, err
	}
	unit := map[string]time.Duration{"d": 24 * time.Hour, "h": time.Hour, "m": time.Minute}[m[2]]
	switch {
	case m[2] == "y" && n > 1000 || n > 1000*365*24 && m[2] == "h" || n > 1000*365 && m[2] == "d":
		return 0, 0, fmt.Errorf("validity.duration %q is longer than 1000 years: write not_after: 9999-12-31T23:59:59Z for no end", text)
	case m[2] == "y":
		return n, 0, nil
	}
	return 0, time.Duration(n) * unit, nil
}

// window returns notBefore and notAfter in whole seconds of UTC (RFC 5280 4.1.2.5).
func (v validity) window(now, endCA time.Time) (notBefore, notAfter time.Time) {
	now = now.UTC().Truncate(time.Second)
	notBefore = now.Add(-v.backdate).Truncate(time.Second)
	switch {
	case v.withCA:
		return notBefore, endCA.UTC()
	case !v.fixed.IsZero():
		return notBefore, v.fixed.UTC()
	}
	return notBefore, now.AddDate(v.years, 0, 0).Add(v.hours)
}
