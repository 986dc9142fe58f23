package awsim

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"sync"
	"time"
)

// serverCA signs the certificates of the MQTT endpoints, in place of Amazon's. Its key stays the same over restarts.
type serverCA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey

	mu    sync.Mutex
	names map[string]*tls.Certificate // guarded by mu; only names of endpoints get in
}

// storedCA is a serverCA in the store.
type storedCA struct {
	Cert []byte `json:"cert"` // DER
	Key  []byte `json:"key"`  // PKCS #8
}

const serverCAs table[storedCA] = "server-ca"

const (
	serverCALife = 30 * 365 * 24 * time.Hour
	serverLife   = 10 * 365 * 24 * time.Hour
	backdate     = 24 * time.Hour // for devices whose clock is behind
)

// openServerCA finds the CA in the store or makes it, and writes its certificate where devices can read it.
func openServerCA(tx *tx, caFile string, now time.Time) (*serverCA, error) {
	stored, err := serverCAs.get(tx, "ca")
	if err != nil {
		return nil, err
	}
	if stored == nil {
		if stored, err = newServerCA(now); err != nil {
			return nil, err
		}
		if err := serverCAs.put(tx, "ca", stored); err != nil {
			return nil, err
		}
	}
	cert, err := x509.ParseCertificate(stored.Cert)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(stored.Key)
	if err != nil {
		return nil, err
	}
	return &serverCA{cert: cert, key: key.(*ecdsa.PrivateKey), names: map[string]*tls.Certificate{}}, writeCAFile(caFile, stored.Cert)
}

func newServerCA(now time.Time) (*storedCA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "awsim endpoints"},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(serverCALife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	return &storedCA{der, pkcs8}, err
}

// writeCAFile replaces the file as a whole: a device may be reading it.
func writeCAFile(path string, der []byte) error {
	temp := path + ".new"
	if err := os.WriteFile(temp, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil {
		return err
	}
	return os.Rename(temp, path)
}

// certificate gives the server certificate for a name; "" is for clients that send none.
func (ca *serverCA) certificate(name string, now time.Time) (*tls.Certificate, error) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	if c, ok := ca.names[name]; ok {
		return c, nil
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	tmpl := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "awsim"}, DNSNames: []string{name},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(serverLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if name == "" {
		tmpl.DNSNames, tmpl.IPAddresses = []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, ca.cert, key.Public(), ca.key)
	if err != nil {
		return nil, err
	}
	c := &tls.Certificate{Certificate: [][]byte{der, ca.cert.Raw}, PrivateKey: key}
	ca.names[name] = c
	return c, nil
}
