package client

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/certmill/certmill/internal/strictyaml"
)

// Station is what a line station knows: where the service is and who itself is. It is read from station.yaml.
type Station struct {
	Server string `yaml:"server"` // https://host:port of the stations' listener
	Key    string `yaml:"key"`    // private key, PEM; default station.key
	Cert   string `yaml:"cert"`   // its certificate from the plant CA, PEM; default station.crt
	CA     string `yaml:"ca"`     // the plant CA's certificate, PEM; default ca.crt
	Spool  string `yaml:"spool"`  // folder that keeps unanswered requests through an outage; default none
}

// LoadStation reads a station.yaml. Paths in it are relative to the file; unknown keys are errors.
func LoadStation(path string) (Station, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Station{}, err
	}
	var s Station
	if err := strictyaml.Decode(b, &s); err != nil {
		return Station{}, fmt.Errorf("%s: %w", path, err)
	}
	if s.Server == "" {
		return Station{}, fmt.Errorf("%s: server is missing: write server: https://HOST:PORT", path)
	}
	dir := filepath.Dir(path)
	s.Key = beside(dir, s.Key, "station.key")
	s.Cert = beside(dir, s.Cert, "station.crt")
	s.CA = beside(dir, s.CA, "ca.crt")
	if s.Spool != "" {
		s.Spool = beside(dir, s.Spool, "")
	}
	return s, nil
}

// beside resolves a path that is relative to dir.
func beside(dir, path, byDefault string) string {
	if path == "" {
		path = byDefault
	}
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// base checks the server's address.
func (s Station) base() (*url.URL, error) {
	u, err := url.Parse(s.Server)
	if err != nil {
		return nil, fmt.Errorf("server address: %w", err)
	}
	if u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("server address %q: want https://HOST:PORT", s.Server)
	}
	u.Path = strings.TrimRight(u.Path, "/")
	return u, nil
}

// tlsConfig reads the three files. The server must show a certificate of the plant CA, and nothing below TLS 1.3 is spoken.
func (s Station) tlsConfig() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(s.Cert, s.Key)
	if err != nil {
		return nil, fmt.Errorf("station certificate and key: %w", err)
	}
	pem, err := os.ReadFile(s.CA)
	if err != nil {
		return nil, fmt.Errorf("plant CA: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("plant CA: no certificate in %s", s.CA)
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{pair},
		RootCAs:      pool,
	}, nil
}
