package server

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"net/http"
	"net/url"
	"time"

	"github.com/certmill/certmill/issuer"
	"github.com/certmill/certmill/issuer/client"
)

// CloseOrder ends an order for ever.
func (a *AdminClient) CloseOrder(ctx context.Context, id, why string) (issuer.Order, error) {
	return post[issuer.Order](ctx, a, "/orders/"+url.PathEscape(id)+"/close", reason{why})
}

// Unconfirmed yields the devices of an order that got their certificate longer ago and have not shown their key; an error ends the sequence.
func (a *AdminClient) Unconfirmed(ctx context.Context, order string, older time.Duration) iter.Seq2[issuer.Unconfirmed, error] {
	return lines[issuer.Unconfirmed](ctx, a, "/orders/"+url.PathEscape(order)+"/unconfirmed?for="+older.String())
}

// Device tells a unit's life; product and slot may be "".
func (a *AdminClient) Device(ctx context.Context, product, id, slot string) (issuer.Device, error) {
	return get[issuer.Device](ctx, a, "/device?"+url.Values{"product": {product}, "id": {id}, "slot": {slot}}.Encode())
}

// Rekey lets a device have another certificate.
func (a *AdminClient) Rekey(ctx context.Context, s issuer.RekeySpec) (issuer.Rekey, error) {
	return post[issuer.Rekey](ctx, a, "/device/rekey", s)
}

// Challenge asks for something that a device may sign.
func (a *AdminClient) Challenge(ctx context.Context, product, id, slot string) (DeviceChallenge, error) {
	return post[DeviceChallenge](ctx, a, "/device/challenge", named{product, id, slot})
}

// Confirm brings what the device has signed.
func (a *AdminClient) Confirm(ctx context.Context, product, id, slot, challenge string, signature []byte) (client.Confirmed, error) {
	return post[client.Confirmed](ctx, a, "/device/confirm", deviceConfirmation{named{product, id, slot},
		client.Confirmation{Challenge: challenge, Signature: base64.StdEncoding.EncodeToString(signature)}})
}

// AcceptClock gives somebody's word that the clock is right.
func (a *AdminClient) AcceptClock(ctx context.Context, why string) error {
	_, err := post[nothing](ctx, a, "/clock/accept", reason{why})
	return err
}

// lines reads an NDJSON answer.
func lines[Line any](ctx context.Context, a *AdminClient, path string) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		var none Line
		res, err := a.do(ctx, http.MethodGet, path, nil)
		if err != nil {
			yield(none, err)
			return
		}
		defer res.Body.Close()
		for d := json.NewDecoder(bufio.NewReader(res.Body)); ; {
			var l Line
			err := d.Decode(&l)
			if errors.Is(err, io.EOF) {
				return
			}
			if !yield(l, err) || err != nil {
				return
			}
		}
	}
}
