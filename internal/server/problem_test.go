package server

import (
	"strings"
	"testing"
)

func TestProblemsAreComplete(t *testing.T) {
	for _, e := range errorCodes {
		if _, ok := problems[e.Code]; !ok {
			t.Errorf("%v leads to %q, which is no problem", e.Err, e.Code)
		}
	}
	for code, p := range problems {
		if p.status < 400 || p.title == "" || !strings.HasSuffix(p.advice, ".") && !strings.HasSuffix(p.advice, "`.") {
			t.Errorf("%s: incomplete: %+v", code, p)
		}
		if retryable := p.status == 429 || p.status == 503; retryable != (p.after > 0) {
			t.Errorf("%s: status %d with Retry-After %s", code, p.status, p.after)
		}
	}
}
