package server

import (
	"encoding/pem"
	"net/http"
	"strings"

	"github.com/certmill/certmill/ca"
	"github.com/certmill/certmill/issuer"
	"github.com/certmill/certmill/issuer/client"
)

// certificate hands out a certificate by its serial. Certificates are no secrets, and serials cannot be guessed: any
// station may ask.
func (c *call) certificate() error {
	serial, err := ca.ParseSerial(c.r.PathValue("serial"))
	if err != nil {
		return refuse(client.CodeNotFound, "a serial is 40 hex digits, the first two 01 to 7f")
	}
	crt, err := c.s.Issuer.Certificate(serial)
	if err != nil {
		return err
	}
	c.w.Header().Set("Vary", "Accept")
	switch c.accepts(client.TypePEM, client.TypeDER, client.TypeJSON) {
	case client.TypeDER:
		c.send(http.StatusOK, client.TypeDER, crt.DER)
	case client.TypeJSON:
		a := answerOf(crt)
		a.Replayed = false // nothing was asked for twice
		c.sendJSON(http.StatusOK, client.TypeJSON, a)
	default:
		c.send(http.StatusOK, client.TypePEM, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: crt.DER}))
	}
	return nil
}

// accepts picks the first of the offers that the Accept header names, in the header's order; without one, the first
// offer. Weights are not looked at: no client of ours sends them (RFC 9110 section 12.5.1 lets a server do so).
func (c *call) accepts(offers ...string) string {
	for _, part := range strings.Split(c.r.Header.Get("Accept"), ",") {
		kind, _, _ := strings.Cut(part, ";")
		for _, o := range offers {
			if strings.EqualFold(strings.TrimSpace(kind), o) {
				return o
			}
		}
	}
	return offers[0]
}

// Public is the door for everybody: the CA certificates that AIA extensions point at (RFC 5280 section 4.2.2.1), and nothing
// else. It may be served over plain HTTP.
func (s *Server) Public() http.Handler {
	return s.newDoor("public", everybody, map[string]methods{
		"/ca/{file}": {http.MethodGet: (*call).caCertificate},
	})
}

// caCertificate hands out one CA certificate in DER (RFC 2585 section 3).
func (c *call) caCertificate() error {
	name, ok := strings.CutSuffix(c.r.PathValue("file"), ".cer")
	if !ok {
		return refuse(client.CodeNotFound, "CA certificates are at /ca/NAME.cer")
	}
	record, err := c.s.findCA(func(r issuer.CARecord) bool { return r.Name == name })
	if err != nil {
		return err
	}
	c.w.Header().Set("Cache-Control", "max-age=3600")
	c.send(http.StatusOK, client.TypeDER, record.Certificate)
	return nil
}
