package main

import (
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certmill/certmill/registrar/jitr"
)

func TestEnvironment(t *testing.T) {
	t.Setenv("AWS_REGION", "eu-central-1")
	a, b := strings.Repeat("a", 64), strings.Repeat("b", 64)
	env := map[string]string{"GRACE": "2h", "CAS": a + ", " + strings.ToUpper(b), "POLICY": "p"}
	h, err := newHandler(t.Context(), func(k string) string { return env[k] }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if h.Grace != 2*time.Hour || !slices.Equal(h.CAs, []string{a, b}) || h.Policy != "p" {
		t.Errorf("handler %+v", h)
	}
	for k, v := range map[string]string{"GRACE": "soon", "CAS": a + ","} {
		bad := maps.Clone(env)
		bad[k] = v
		if _, err := newHandler(t.Context(), func(k string) string { return bad[k] }, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), k) {
			t.Errorf("%s=%s: error %v; want one that names %s", k, v, err, k)
		}
	}
}

// An event that cannot be read would fail for ever: Lambda must not try it again.
func TestForeignEventIsNotRetried(t *testing.T) {
	h := &jitr.Handler{Log: slog.New(slog.DiscardHandler)}
	for _, payload := range []string{``, `[]`, `{"certificateId":"x"}`} {
		if outcome, err := handle(t.Context(), h, []byte(payload)); err != nil || outcome != jitr.Ignored {
			t.Errorf("%q: %v, %v; want ignored", payload, outcome, err)
		}
	}
}
