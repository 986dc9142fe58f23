package main

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/certmill/certmill/registrar/jitr"
)

func TestEnvironment(t *testing.T) {
	t.Setenv("AWS_REGION", "eu-central-1")
	env := map[string]string{"GRACE": "2h", "CAS": "aa,bb", "POLICY": "p"}
	h, err := newHandler(t.Context(), func(k string) string { return env[k] }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if h.Grace != 2*time.Hour || len(h.CAs) != 2 || h.Policy != "p" {
		t.Errorf("handler %+v", h)
	}
	env["GRACE"] = "soon"
	if _, err := newHandler(t.Context(), func(k string) string { return env[k] }, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "GRACE") {
		t.Errorf("error %v; want one that names GRACE", err)
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
