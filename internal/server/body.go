package server

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"mime"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/certmill/certmill/issuer/client"
)

// contentType returns the body's media type if it is one of those wanted.
func (c *call) contentType(wanted ...string) (string, error) {
	h := c.r.Header
	if len(h.Values("Content-Type")) != 1 || h.Get("Content-Encoding") != "" {
		return "", refuse(client.CodeContentType, "the body needs one Content-Type and no Content-Encoding")
	}
	got, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil {
		return "", refuse(client.CodeContentType, "the Content-Type cannot be read")
	}
	if cs, ok := params["charset"]; ok && !strings.EqualFold(cs, "utf-8") {
		return "", refuse(client.CodeContentType, "the charset is not UTF-8")
	}
	for _, w := range wanted {
		if got == w {
			return got, nil
		}
	}
	return "", refuse(client.CodeContentType, "this address does not take %.60q", got)
}

// body reads the whole body, at most limit octets, before anything of it is parsed.
func (c *call) body(limit int64) ([]byte, error) {
	if c.r.ContentLength > limit {
		return nil, refuse(client.CodeTooLarge, "the body has %d octets, more than %d", c.r.ContentLength, limit)
	}
	c.reading = true
	var buf bytes.Buffer
	buf.Grow(int(max(c.r.ContentLength, 0)) + bytes.MinRead)
	n, err := buf.ReadFrom(io.LimitReader(c.r.Body, limit+1))
	switch {
	case n > limit:
		return nil, refuse(client.CodeTooLarge, "the body has more than %d octets", limit)
	case err == nil:
		c.received()
		return buf.Bytes(), nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, refuse(client.CodeSlowDown, "the body did not arrive within %s", c.s.Limits.Request)
	}
	return nil, refuse(client.CodeBodyMalformed, "the body broke off")
}

// maxDrain is how much of a refused body is taken and thrown away.
const maxDrain = 16 << 20

// drain takes what is left of a refused body, within its time to arrive: most clients read nothing before they have sent everything, and would
// find a broken connection in place of the answer. One that waits for 100 Continue, which the first read
// would send, is not asked to go on.
func (c *call) drain() {
	if c.reading || c.r.Header.Get("Expect") == "" {
		_, _ = io.CopyN(io.Discard, c.r.Body, maxDrain) // what it ends with changes nothing
	}
}

// maxClientRef is the longest client_ref in octets. Device id and slot are the issuer's to judge.
const maxClientRef = 256

// decodeRequest parses one request, and takes nothing that two JSON parsers could read differently: no unknown, repeated or
// differently capitalised name, no null, no other type, no broken UTF-8 or half of a surrogate pair, nothing behind it. The
// standard decoder lets most of these pass, so it serves as tokenizer only.
func decodeRequest(b []byte) (client.Request, error) {
	var r client.Request
	fields := map[string]*string{"device_id": &r.DeviceID, "csr": &r.CSR, "client_ref": &r.ClientRef, "slot": &r.Slot}
	if err := decodeStrings(b, fields); err != nil {
		return r, err
	}
	return r, checkRequest(r)
}

// decodeStrings parses an object of strings, and takes the names that it found out of fields.
func decodeStrings(b []byte, fields map[string]*string) error {
	if !utf8.Valid(b) {
		return refuse(client.CodeBodyMalformed, "the text is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(b))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return refuse(client.CodeBodyMalformed, "the text is not a JSON object")
	}
	for d.More() {
		if err := decodeField(d, fields); err != nil {
			return err
		}
	}
	if t, err := d.Token(); err != nil || t != json.Delim('}') {
		return refuse(client.CodeBodyMalformed, "the JSON object does not end")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return refuse(client.CodeBodyMalformed, "something follows the JSON object")
	}
	return nil
}

// decodeField reads one name and its value, and takes the name out of fields.
func decodeField(d *json.Decoder, fields map[string]*string) error {
	t, err := d.Token()
	if err != nil {
		return refuse(client.CodeBodyMalformed, "the JSON is broken after %d octets", d.InputOffset())
	}
	name, _ := t.(string)
	field := fields[name]
	if field == nil {
		return refuse(client.CodeBodyMalformed, "the field %.60q is unknown or stands twice", name)
	}
	delete(fields, name)
	if t, err = d.Token(); err != nil {
		return refuse(client.CodeBodyMalformed, "the JSON is broken after %d octets", d.InputOffset())
	}
	value, ok := t.(string)
	if !ok {
		return refuse(client.CodeBodyMalformed, "the field %s is not a string", name)
	}
	if strings.ContainsRune(value, utf8.RuneError) { // what the tokenizer makes of half a surrogate pair
		return refuse(client.CodeBodyMalformed, "the field %s has a character that is none", name)
	}
	*field = value
	return nil
}

// checkRequest holds what nobody behind the server looks at.
func checkRequest(r client.Request) error {
	switch {
	case r.CSR == "":
		return refuse(client.CodeBodyMalformed, "the field csr is missing")
	case len(r.ClientRef) > maxClientRef:
		return refuse(client.CodeBodyMalformed, "the field client_ref has more than %d octets", maxClientRef)
	}
	return nil
}

// decodeCSR takes the DER out of a CSR in base64 or in PEM (RFC 7468 section 7, and the older label of the same). Text before the
// PEM is skipped (section 2): openssl req -text writes some.
func decodeCSR(text string) ([]byte, error) {
	begin := strings.Index(text, "-----BEGIN ")
	if begin < 0 {
		der, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
		if err != nil {
			return nil, refuse(client.CodeCSRMalformed, "the CSR is neither PEM nor base64")
		}
		return der, nil
	}
	if strings.Count(text, "-----BEGIN ") > 1 { // the decoder would skip one that it cannot read
		return nil, refuse(client.CodeCSRMalformed, "the PEM holds more than one block")
	}
	block, rest := pem.Decode([]byte(text[begin:]))
	switch {
	case block == nil:
		return nil, refuse(client.CodeCSRMalformed, "the CSR's PEM is broken")
	case block.Type != "CERTIFICATE REQUEST" && block.Type != "NEW CERTIFICATE REQUEST":
		return nil, refuse(client.CodeCSRMalformed, "the PEM is labelled %.60q, not CERTIFICATE REQUEST", block.Type)
	case len(block.Headers) > 0 || len(bytes.TrimSpace(rest)) > 0:
		return nil, refuse(client.CodeCSRMalformed, "the PEM has headers, or something behind its end")
	}
	return block.Bytes, nil
}

// readLines splits an NDJSON body. What is wrong with one line is that line's problem; what is wrong with their number is
// the whole request's.
func readLines(body []byte) ([][]byte, error) {
	body = bytes.TrimRight(body, "\r\n")
	if len(body) == 0 {
		return nil, refuse(client.CodeBodyMalformed, "the body has no lines")
	}
	if n := bytes.Count(body, []byte("\n")) + 1; n > client.MaxLines {
		return nil, refuse(client.CodeTooLarge, "the body has %d lines, more than %d", n, client.MaxLines)
	}
	return bytes.Split(body, []byte("\n")), nil
}

// decodeLine parses one line of an NDJSON body.
func decodeLine(line []byte) (client.Request, error) {
	if len(line) > client.MaxLine {
		return client.Request{}, refuse(client.CodeTooLarge, "the line has %d octets, more than %d", len(line), client.MaxLine)
	}
	return decodeRequest(line)
}

// decodeStrict parses a JSON body of the admin socket: known fields, one value.
func decodeStrict(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return refuse(client.CodeBodyMalformed, "%w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return refuse(client.CodeBodyMalformed, "something follows the JSON value")
	}
	return nil
}
