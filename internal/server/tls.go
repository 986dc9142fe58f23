package server

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// TLSConfig says who may enter the stations' listener and what the service shows there.
type TLSConfig struct {
	Plant       *x509.Certificate                // the plant CA: the only issuer of those who may enter
	Certificate func() (*tls.Certificate, error) // the service's own, asked at each handshake, so that it can be renewed
	MinVersion  string                           // "" or "1.3"; "1.2" lets ECDHE with AEAD in too
	Now         func() time.Time                 // nil: time.Now
}

// StationTLS makes the TLS configuration of the stations' listener: mutual, with the plant CA alone in the pool, so that a
// device's certificate does not verify, and for client authentication alone (RFC 5280 section 4.2.1.12), so that the plant
// CA's server certificates do not either. There are no session tickets: a resumed session would outlive its certificate.
func StationTLS(cfg TLSConfig) (*tls.Config, error) {
	if cfg.Plant == nil || cfg.Certificate == nil {
		return nil, errors.New("stations' TLS needs the plant CA and a certificate of its own")
	}
	pool := x509.NewCertPool()
	pool.AddCert(cfg.Plant)
	t := &tls.Config{
		MinVersion:             tls.VersionTLS13,
		ClientAuth:             tls.RequireAndVerifyClientCert, // asks for ExtKeyUsageClientAuth
		ClientCAs:              pool,
		SessionTicketsDisabled: true,
		NextProtos:             []string{"http/1.1"},
		Time:                   cfg.Now,
		GetCertificate:         func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cfg.Certificate() },
	}
	switch cfg.MinVersion {
	case "", "1.3":
	case "1.2":
		t.MinVersion = tls.VersionTLS12
		t.CipherSuites = []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
		} // ECDSA alone: the service's own key is always P-256
	default:
		return nil, fmt.Errorf("tls_min %q: want \"1.3\" or \"1.2\"", cfg.MinVersion)
	}
	return t, nil
}
