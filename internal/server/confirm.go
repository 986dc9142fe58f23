package server

import (
	"context"
	"encoding/base64"
	"net/http"

	"github.com/certmill/certmill/ca"
	"github.com/certmill/certmill/issuer/client"
)

// confirmable finds order and serial of the path, if this station may draw on the order.
func (c *call) confirmable() (order string, serial ca.Serial, err error) {
	o, err := c.drawable()
	if err != nil {
		return "", serial, err
	}
	if serial, err = ca.ParseSerial(c.r.PathValue("serial")); err != nil {
		return "", serial, refuse(client.CodeNotFound, "a serial is 40 hex digits, the first two 01 to 7f")
	}
	return o.ID, serial, nil
}

// challenge gives a device something to sign. A body is not asked for, and not looked at.
func (c *call) challenge() error {
	order, serial, err := c.confirmable()
	if err != nil {
		return err
	}
	ch, err := c.s.Issuer.Challenge(order, serial)
	if err != nil {
		return err
	}
	c.w.Header().Set("Cache-Control", "no-store")
	c.sendJSON(http.StatusOK, client.TypeJSON, client.Challenge{Challenge: ch.Text, Expires: ch.Expires})
	return nil
}

// confirm records that the device has signed it.
func (c *call) confirm() error {
	order, serial, err := c.confirmable()
	if err != nil {
		return err
	}
	if _, err := c.contentType(client.TypeJSON); err != nil {
		return err
	}
	body, err := c.body(client.MaxLine)
	if err != nil {
		return err
	}
	var in client.Confirmation
	if err := decodeStrings(body, map[string]*string{"challenge": &in.Challenge, "signature": &in.Signature}); err != nil {
		return err
	}
	signature, err := decodeSignature(in)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), c.s.Limits.Answer)
	defer cancel()
	done, err := c.s.Issuer.Confirm(ctx, order, serial, in.Challenge, signature, c.station.Name)
	if err != nil {
		return err
	}
	c.sendJSON(http.StatusOK, client.TypeJSON, client.Confirmed{ConfirmedAt: done.At})
	return nil
}

func decodeSignature(in client.Confirmation) ([]byte, error) {
	if in.Challenge == "" || in.Signature == "" {
		return nil, refuse(client.CodeBodyMalformed, "challenge or signature is missing")
	}
	signature, err := base64.StdEncoding.DecodeString(in.Signature)
	if err != nil {
		return nil, refuse(client.CodeBodyMalformed, "the signature is not base64")
	}
	return signature, nil
}
