package issuer

import (
	"crypto/sha256"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/certmill/certmill/internal/ledger"
)

// Device is a unit's whole life.
type Device struct {
	Product      string              `json:"product"`
	DeviceID     string              `json:"device_id"`
	Slot         string              `json:"slot"`
	Attributes   Attributes          `json:"attributes,omitempty"` // as the list of its newest order has them
	Certificates []DeviceCertificate `json:"certificates"`         // the oldest first
}

// DeviceCertificate is one of its certificates.
type DeviceCertificate struct {
	Generation    int       `json:"generation"`
	Serial        string    `json:"serial"`
	CertificateID string    `json:"certificate_id,omitempty"` // SHA-256 of the DER; "" until it is signed
	KeyID         string    `json:"key_id"`                   // SHA-256 of its SPKI
	Order         string    `json:"order"`
	Station       string    `json:"station"`
	CA            string    `json:"ca"`
	Profile       string    `json:"profile"` // hash
	Recorded      time.Time `json:"recorded"`
	Signed        time.Time `json:"signed,omitzero"`
	NotBefore     time.Time `json:"not_before,omitzero"`
	NotAfter      time.Time `json:"not_after,omitzero"`
	Index         uint64    `json:"index,omitempty"` // of the signature's entry

	Confirmed *Confirmed `json:"confirmed,omitempty"`
	Revoked   *Revoked   `json:"revoked,omitempty"` // its time may lie ahead
	Rekey     *Rekey     `json:"rekey,omitempty"`   // that ended it
}

// Device tells a unit's life. Product may be left out where the device is of one alone, slot where it is main. ErrNotFound, ErrInvalid.
func (i *Issuer) Device(product, id, slot string) (Device, error) {
	i.books.mu.RLock()
	products := i.books.products()
	i.books.mu.RUnlock()
	var d Device
	err := i.ledger.View(func(v *ledger.View) error {
		u := unit{product, id, slot}
		if err := u.find(v, products); err != nil {
			return err
		}
		d = Device{Product: u.product, DeviceID: u.device, Slot: u.slot}
		history, err := u.history(v)
		if err != nil {
			return err
		}
		for _, g := range history {
			c, err := g.certificate(v)
			if err != nil {
				return err
			}
			d.Certificates = append(d.Certificates, c)
		}
		d.Attributes, err = i.attributesOf(v, d.Certificates[len(history)-1].Order, id)
		return err
	})
	if err != nil {
		return Device{}, err
	}
	return d, nil
}

func (i *Issuer) attributesOf(v *ledger.View, order, id string) (Attributes, error) {
	i.books.mu.RLock()
	o := i.books.orders[order]
	i.books.mu.RUnlock()
	if o == nil { // it was made after our look at the books
		return nil, nil
	}
	list, err := o.list(v)
	return list[id], err
}

// certificate reads what there is to know of one generation.
func (g *generation) certificate(v *ledger.View) (c DeviceCertificate, err error) {
	e, err := get(v, g.index)
	if err != nil {
		return c, err
	}
	in := &g.intent
	c = DeviceCertificate{Generation: g.n, KeyID: hex.EncodeToString(in.key[:]), Order: in.order, Station: in.station, CA: in.ca,
		Profile: hex.EncodeToString(in.profile), Recorded: e.Time, Rekey: (*Rekey)(g.rekey)}
	if c.Serial, err = tbsSerial(in.tbs); err != nil {
		return c, err
	}
	if r, found, err := revocationOf(v, g.index); err != nil {
		return c, err
	} else if found {
		c.Revoked = &r.Revoked
	}
	if n, found, err := confirmOf(v, g.index); err != nil {
		return c, err
	} else if found {
		c.Confirmed = &n.Confirmed
	}
	return c, c.sign(v, g)
}

// sign fills in what the signature brings.
func (c *DeviceCertificate) sign(v *ledger.View, g *generation) error {
	by, sig, signed, err := signatureOf(v, g.index)
	if err != nil || !signed {
		return err
	}
	e, err := get(v, by)
	if err != nil {
		return err
	}
	der, cert, err := assemble(&g.intent, sig)
	if err != nil {
		return err
	}
	id := sha256.Sum256(der)
	c.CertificateID, c.Signed, c.Index = hex.EncodeToString(id[:]), e.Time, by
	c.NotBefore, c.NotAfter = cert.NotBefore, cert.NotAfter
	return nil
}

// tbsSerial reads the serial of a TBS (RFC 5280 section 4.1): the second field, behind the version.
func tbsSerial(tbs []byte) (string, error) {
	var body, field asn1.RawValue
	if _, err := asn1.Unmarshal(tbs, &body); err != nil {
		return "", fmt.Errorf("serial of a TBS: %w", errPayload)
	}
	rest, err := asn1.Unmarshal(body.Bytes, &field)
	if err == nil && field.Class == asn1.ClassContextSpecific {
		_, err = asn1.Unmarshal(rest, &field)
	}
	if err != nil || field.Class != asn1.ClassUniversal || field.Tag != asn1.TagInteger {
		return "", fmt.Errorf("serial of a TBS: %w", errPayload)
	}
	return hex.EncodeToString(field.Bytes), nil
}
