package jitp

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"unicode/utf8"
)

// decode reads one JSON value and nothing behind it. Unlike encoding/json it refuses an object that names a key twice:
// two readers of such a template would see two templates.
func decode(body []byte) (any, error) {
	if !utf8.Valid(body) {
		return nil, fault("", "", "is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	v, err := decodeValue(d, "")
	if err != nil {
		return nil, notJSON(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fault("", "", "has something behind its last brace")
	}
	return v, nil
}

func notJSON(err error) error {
	var f *Fault
	if errors.As(err, &f) {
		return err
	}
	return fault("", "", "is not JSON: %v", err)
}

func decodeValue(d *json.Decoder, path string) (any, error) {
	tok, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch tok {
	case json.Delim('{'):
		return decodeObject(d, path)
	case json.Delim('['):
		return decodeList(d, path)
	}
	return tok, nil
}

func decodeObject(d *json.Decoder, path string) (any, error) {
	object := map[string]any{}
	for d.More() {
		tok, err := d.Token()
		if err != nil {
			return nil, err
		}
		key := tok.(string) // encoding/json lets nothing else stand there
		at := join(path, key)
		if _, twice := object[key]; twice {
			return nil, fault(at, "", "stands there twice")
		}
		if object[key], err = decodeValue(d, at); err != nil {
			return nil, err
		}
	}
	_, err := d.Token()
	return object, err
}

func decodeList(d *json.Decoder, path string) (any, error) {
	list := []any{}
	for d.More() {
		v, err := decodeValue(d, path)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	_, err := d.Token()
	return list, err
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
