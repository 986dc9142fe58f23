package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

func newTLSListener(ln net.Listener, cfg *tls.Config) net.Listener { return tls.NewListener(ln, cfg) }

// ownCertificate is the service's TLS certificate: a key in a file, a certificate of the plant CA, renewed while the service runs.
type ownCertificate struct {
	service *service
	path    string // of the PEM file with certificate and key
	names   []string
	now     atomic.Pointer[tls.Certificate]
}

// ownCertificate loads the certificate or asks the plant CA for one, and renews it until the service ends.
func (s *service) ownCertificate(log *slog.Logger) (*ownCertificate, error) {
	cfg := s.plant.cfg
	o := &ownCertificate{service: s, path: filepath.Join(cfg.path(cfg.State), "service.pem"), names: cfg.serviceNames()}
	if err := o.load(); err != nil {
		return nil, err
	}
	if o.due(time.Now()) {
		if err := o.renew(); err != nil {
			return nil, fmt.Errorf("service certificate: %w", err)
		}
	}
	s.running.Go(func() {
		every := time.NewTicker(renewCheck)
		defer every.Stop()
		for {
			select {
			case <-s.ctx.Done():
				return
			case <-every.C:
			}
			if o.due(time.Now()) {
				if err := o.renew(); err != nil {
					log.Error("renew service certificate", "err", err) // tried again at the next tick, with a third of its life left
				}
			}
		}
	})
	return o, nil
}

// renewCheck is how often the certificate's age is looked at.
const renewCheck = time.Hour

// current is what handshakes show.
func (o *ownCertificate) current() (*tls.Certificate, error) {
	if c := o.now.Load(); c != nil {
		return c, nil
	}
	return nil, errors.New("service has no certificate")
}

// due reports whether two thirds of the certificate's life are over, or its names are not the configured ones.
func (o *ownCertificate) due(now time.Time) bool {
	c := o.now.Load()
	if c == nil {
		return true
	}
	life := c.Leaf.NotAfter.Sub(c.Leaf.NotBefore)
	if now.After(c.Leaf.NotBefore.Add(life * 2 / 3)) {
		return true
	}
	for _, n := range o.names {
		if c.Leaf.VerifyHostname(n) != nil {
			return true
		}
	}
	return false
}

// load reads the file; a missing one leaves the certificate due.
func (o *ownCertificate) load() error {
	data, err := os.ReadFile(o.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	c, err := tls.X509KeyPair(data, data)
	if err != nil {
		return fail(exitConfig, "remove it: the service makes a new one", "%s: %w", o.path, err)
	}
	o.now.Store(&c)
	return nil
}

// renew makes a new key and asks the plant CA for its certificate: a key is never certified twice.
func (o *ownCertificate) renew() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "certmill service"}}, key)
	if err != nil {
		return err
	}
	s := o.service
	cert, err := s.plant.issuer.ServiceCertificate(s.ctx, csr, o.names, "service")
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})...)
	if err := writeFile(o.path, text, modeSecret); err != nil {
		return err
	}
	return o.load()
}

// serviceNames are the names a station may call the service by.
func (c *Config) serviceNames() []string {
	names := append([]string{"localhost", "127.0.0.1", "::1"}, c.Listen.Names...)
	if host, _, err := net.SplitHostPort(c.Listen.Stations); err == nil {
		if ip := net.ParseIP(host); host != "" && (ip == nil || !ip.IsUnspecified()) {
			names = append(names, host)
		}
	}
	if host, err := os.Hostname(); err == nil {
		names = append(names, host)
	}
	return uniqueSorted(names)
}
