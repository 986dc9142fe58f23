package server

import (
	"maps"
	"net/http"
	"slices"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/certmill/certmill/issuer/client"
)

// Metrics is the door of whoever watches the service.
func (s *Server) Metrics() http.Handler {
	return s.newDoor("metrics", everybody, map[string]methods{
		"/livez":   {http.MethodGet: (*call).livez},
		"/readyz":  {http.MethodGet: (*call).readyz},
		"/metrics": {http.MethodGet: (*call).measurements},
	})
}

// livez says that the process runs.
func (c *call) livez() error { return c.well() }

// readyz says that requests can be answered; with ?sign, that a signature could be made now. A token that is away does not
// make the service unready as such: it goes on answering for what is stored (promise P7).
func (c *call) readyz() error {
	if err := c.s.Ready(); err != nil {
		return refuse(client.CodeStoreReadOnly, "%w", err)
	}
	if c.r.URL.Query().Has("sign") {
		if err := c.s.Issuer.ClockTrusted(); err != nil {
			return err
		}
		for _, name := range slices.Sorted(maps.Keys(c.s.Tokens)) {
			if err := c.s.Tokens[name].Ready(); err != nil {
				return refuse(client.CodeHSMUnavailable, "token %s: %w", name, err)
			}
		}
	}
	return c.well()
}

func (c *call) well() error {
	c.w.Header().Set("Cache-Control", "no-store")
	c.send(http.StatusOK, "text/plain; charset=utf-8", []byte("ok\n"))
	return nil
}

// measurements serves Prometheus.
func (c *call) measurements() error {
	promhttp.HandlerFor(c.s.metrics.registry, promhttp.HandlerOpts{DisableCompression: true}).ServeHTTP(c.w, c.r)
	return nil
}
