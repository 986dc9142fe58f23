package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"net/http"
	"time"

	"github.com/certmill/certmill/issuer"
	"github.com/certmill/certmill/issuer/client"
)

// issue answers one request for a certificate, or many.
func (c *call) issue() error {
	kind, err := c.contentType(client.TypeJSON, client.TypeNDJSON)
	if err != nil {
		return err
	}
	if kind == client.TypeNDJSON {
		return c.issueBatch()
	}
	body, err := c.body(client.MaxLine)
	if err != nil {
		return err
	}
	req, err := decodeRequest(body)
	if err != nil {
		return err
	}
	if err := c.s.gates.charge(c.station.Name, 1, c.s.Now()); err != nil {
		return err
	}
	a, err := c.submit(req)
	if err != nil {
		return err
	}
	status := http.StatusCreated
	if a.Replayed {
		status = http.StatusOK
		c.w.Header().Set(client.HeaderReplayed, "true")
		a.Replayed = false // the header says it
	}
	c.sendJSON(status, client.TypeJSON, a)
	return nil
}

// submit has one certificate issued, or finds it again.
func (c *call) submit(req client.Request) (client.Answer, error) {
	csr, err := decodeCSR(req.CSR)
	if err != nil {
		return client.Answer{}, err
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), c.s.Limits.Answer)
	defer cancel()
	began := time.Now() // a duration of this process: the injected clock tells the time of day
	crt, err := c.s.Issuer.Submit(ctx, issuer.Item{
		Order:    c.r.PathValue("order"),
		Station:  c.station.Name,
		DeviceID: req.DeviceID,
		Slot:     req.Slot,
		CSR:      csr,
	})
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil {
			return client.Answer{}, refuse(client.CodeSlowDown, "there was no answer within %s", c.s.Limits.Answer)
		}
		return client.Answer{}, err
	}
	c.s.metrics.issuedIn(crt.Replayed, time.Since(began))
	a := answerOf(crt)
	a.ClientRef = req.ClientRef
	return a, nil
}

// answerOf writes a certificate as it travels.
func answerOf(crt issuer.Certificate) client.Answer {
	id := sha256.Sum256(crt.DER)
	return client.Answer{
		DeviceID:      crt.DeviceID,
		Serial:        crt.Serial.String(),
		CertificateID: hex.EncodeToString(id[:]),
		Certificate:   string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: crt.DER})),
		NotBefore:     crt.NotBefore.UTC(),
		NotAfter:      crt.NotAfter.UTC(),
		Receipt:       client.Receipt{Index: crt.Index, Checkpoint: string(crt.Checkpoint)},
		Replayed:      crt.Replayed,
	}
}
