package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/certmill/certmill/issuer/client"
)

// demoDevice is a device of the demonstration: its key is made here because there is no device.
type demoDevice struct {
	id  string
	dir string // where its files are kept; "" for those that never connect
	csr []byte // PEM
}

func deviceID(n int) string { return fmt.Sprintf("DEMO-%06d", n) }

// makeDevice makes key and CSR; with a folder, it keeps them there and finds them again.
func makeDevice(id, dir string) (*demoDevice, error) {
	d := &demoDevice{id: id, dir: dir}
	if dir != "" {
		csr, err := os.ReadFile(filepath.Join(dir, "csr.pem"))
		if err == nil {
			d.csr = csr
			return d, nil
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: id}}, key)
	if err != nil {
		return nil, err
	}
	d.csr = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr})
	if dir == "" {
		return d, nil
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err := writeFile(filepath.Join(dir, "key.pem"), keyPEM, modeSecret); err != nil {
		return nil, err
	}
	return d, writeFile(filepath.Join(dir, "csr.pem"), d.csr, modePublic) // last: where it is there, the key is too
}

// keep writes the certificate beside the key.
func (d *demoDevice) keep(a client.Answer, issuing []byte) error {
	if d.dir == "" {
		return nil
	}
	cert := []byte(a.Certificate)
	return errors.Join(
		writeFile(filepath.Join(d.dir, "cert.pem"), cert, modePublic),
		writeFile(filepath.Join(d.dir, "chain.pem"), slices.Concat(cert, issuing), modePublic))
}

// lineWorkers is how many requests the demonstration's station keeps in flight.
const lineWorkers = 16

// lineRun is what the station measured.
type lineRun struct {
	answers map[string]client.Answer // of the devices that are kept, by id
	took    []time.Duration          // of each request
	elapsed time.Duration
}

// perSecond is the rate of the run.
func (r *lineRun) perSecond() float64 { return float64(len(r.took)) / r.elapsed.Seconds() }

// p99 is the time within which 99 of 100 requests were answered.
func (r *lineRun) p99() time.Duration {
	if len(r.took) == 0 {
		return 0
	}
	slices.Sort(r.took)
	return r.took[len(r.took)*99/100]
}

// line asks for the certificates of all devices, as a station would, and keeps the first error.
func line(ctx context.Context, cl *client.Client, order string, devices []*demoDevice, issuing []byte, each func()) (*lineRun, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	run := &lineRun{answers: make(map[string]client.Answer)}
	var mu sync.Mutex // guards run
	var workers sync.WaitGroup
	work := make(chan *demoDevice)
	started := time.Now()
	for range lineWorkers {
		workers.Go(func() {
			for d := range work {
				asked := time.Now()
				a, err := cl.Issue(ctx, order, client.Request{DeviceID: d.id, CSR: string(d.csr)})
				if err == nil {
					err = d.keep(a, issuing)
				}
				if err != nil && !madeBefore(d, err) {
					cancel(fmt.Errorf("device %s: %w", d.id, err))
					continue
				}
				mu.Lock()
				run.took = append(run.took, time.Since(asked))
				if d.dir != "" {
					run.answers[d.id] = a
				}
				mu.Unlock()
				each()
			}
		})
	}
feed:
	for _, d := range devices {
		select {
		case work <- d:
		case <-ctx.Done():
			break feed
		}
	}
	close(work)
	workers.Wait()
	run.elapsed = time.Since(started)
	return run, context.Cause(ctx)
}

// madeBefore recognises a device whose certificate an interrupted run was given, with a key that nobody kept.
func madeBefore(d *demoDevice, err error) bool {
	var p *client.Problem
	return d.dir == "" && errors.As(err, &p) && p.Code == client.CodeDeviceHasCertificate
}
