package server

import (
	"context"
	"time"

	"github.com/certmill/certmill/ca"
	"github.com/certmill/certmill/issuer"
	"github.com/certmill/certmill/issuer/client"
)

// device tells a unit's life. Ids may hold what a path may not, so they stand in the query.
func (c *call) device() (issuer.Device, error) {
	q := c.r.URL.Query()
	return c.s.Issuer.Device(q.Get("product"), q.Get("id"), q.Get("slot"))
}

func (c *call) rekey(ctx context.Context, in issuer.RekeySpec) (issuer.Rekey, error) {
	return c.s.Issuer.Rekey(ctx, in, c.actor)
}

// DeviceChallenge is a challenge with what is signed beside it.
type DeviceChallenge struct {
	client.Challenge
	Order         string `json:"order"`
	Serial        string `json:"serial"`
	CertificateID string `json:"certificate_id"`
}

// named names a unit.
type named struct {
	Product  string `json:"product"`
	DeviceID string `json:"device_id"`
	Slot     string `json:"slot"`
}

// deviceChallenge makes one for a unit's newest certificate.
func (c *call) deviceChallenge(_ context.Context, in named) (DeviceChallenge, error) {
	newest, serial, err := c.newest(in)
	if err != nil {
		return DeviceChallenge{}, err
	}
	ch, err := c.s.Issuer.Challenge(newest.Order, serial)
	if err != nil {
		return DeviceChallenge{}, err
	}
	return DeviceChallenge{client.Challenge{Challenge: ch.Text, Expires: ch.Expires}, newest.Order, newest.Serial, ch.CertificateID}, nil
}

// newest finds a unit's newest certificate.
func (c *call) newest(in named) (newest issuer.DeviceCertificate, serial ca.Serial, err error) {
	d, err := c.s.Issuer.Device(in.Product, in.DeviceID, in.Slot)
	if err != nil {
		return newest, serial, err
	}
	newest = d.Certificates[len(d.Certificates)-1]
	serial, err = ca.ParseSerial(newest.Serial)
	return newest, serial, err
}

// deviceConfirmation is a confirmation that does not come from a station.
type deviceConfirmation struct {
	named
	client.Confirmation
}

func (c *call) confirmDevice(ctx context.Context, in deviceConfirmation) (client.Confirmed, error) {
	newest, serial, err := c.newest(in.named)
	if err != nil {
		return client.Confirmed{}, err
	}
	signature, err := decodeSignature(in.Confirmation)
	if err != nil {
		return client.Confirmed{}, err
	}
	done, err := c.s.Issuer.Confirm(ctx, newest.Order, serial, in.Challenge, signature, c.actor)
	return client.Confirmed{ConfirmedAt: done.At}, err
}

// unconfirmed streams the devices of an order that have not confirmed for a time.
func (c *call) unconfirmed() error {
	older, err := time.ParseDuration(c.r.URL.Query().Get("for"))
	if err != nil || older < 0 {
		return refuse(client.CodeInvalid, "for is a duration, such as 24h")
	}
	return stream(c, c.s.Issuer.Unconfirmed(c.r.PathValue("order"), older))
}

func (c *call) closeOrder(ctx context.Context, in reason) (issuer.Order, error) {
	return c.s.tally.on(c.s.Issuer.CloseOrder(ctx, c.r.PathValue("order"), in.Reason, c.actor))
}

func (c *call) acceptClock(ctx context.Context, in reason) (nothing, error) {
	return nothing{}, c.s.Issuer.AcceptClock(ctx, in.Reason, c.actor)
}
