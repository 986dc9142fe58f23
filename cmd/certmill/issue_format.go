package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/term"

	"github.com/certmill/certmill/issuer/client"
	"github.com/certmill/certmill/issuer/client/format"
)

// deviceWriter writes one answer in the form that was asked for.
type deviceWriter struct {
	e        *env
	o        issueOptions
	form     format.Form
	key      crypto.Signer // nil where none was given
	password string
}

// checkFormat refuses what the form cannot do, and outputs that are there already.
func (o issueOptions) checkFormat() error {
	form, known := format.ByName(o.Format)
	switch {
	case !known:
		return fail(exitUsage, "formats are "+strings.Join(format.Names(), ", "), "format %q is not known", o.Format)
	case form.Key == format.Must && o.Key == "":
		return fail(exitUsage, "certmill keygen --csr makes key and CSR", "format %s needs --key", o.Format)
	case form.Key == format.Never && o.Key != "":
		return fail(exitUsage, "", "format %s takes no --key", o.Format)
	case form.Chain == format.Never && o.Chain:
		return fail(exitUsage, "", "format %s takes no --chain", o.Format)
	case o.PasswordFile != "" && o.Format != "p12":
		return fail(exitUsage, "", "--password-file goes with --format p12")
	case o.QR != "" && o.QR != "svg" && o.QR != "png":
		return fail(exitUsage, "", "--qr is svg or png, not %q", o.QR)
	case o.QR != "" && (o.Out == "" || o.qrFile() == o.Out):
		return fail(exitUsage, "the code is drawn beside it, with the ending ."+o.QR, "--qr needs an --out of another name")
	case o.Out != "":
		return mustBeNew(o.Out)
	}
	return nil
}

// qrFile is where --qr draws: beside --out.
func (o issueOptions) qrFile() string {
	return strings.TrimSuffix(o.Out, filepath.Ext(o.Out)) + "." + o.QR
}

// newDeviceWriter reads key and password, and sees that the key is the CSR's.
func (e *env) newDeviceWriter(o issueOptions, csr []byte) (*deviceWriter, error) {
	w := &deviceWriter{e: e, o: o}
	w.form, _ = format.ByName(o.Format)
	if o.Key == "" {
		return w, nil
	}
	data, err := e.readInput(o.Key, maxInspect)
	if err != nil {
		return nil, err
	}
	if w.key, err = format.ParseKey(data); err != nil {
		return nil, fail(exitUsage, "", "%s: %w", o.Key, err)
	}
	if block, _ := pem.Decode(csr); block != nil {
		csr = block.Bytes
	}
	request, err := x509.ParseCertificateRequest(csr)
	if err != nil || !format.SamePublic(w.key.Public(), request.PublicKey) {
		return nil, fail(exitUsage, "give the key that the CSR was made with", "%s is not the key of %s", o.Key, o.CSR)
	}
	if o.Format == "p12" {
		w.password, err = e.readPassword(o.PasswordFile)
	}
	return w, err
}

// readPassword takes the first line of a file, or asks twice at a terminal. A password never stands in an argument or in the environment.
func (e *env) readPassword(file string) (string, error) {
	if file == "" {
		return e.askPassword()
	}
	data, err := e.readInput(file, 4096)
	if err != nil {
		return "", err
	}
	line, _, _ := bytes.Cut(data, []byte("\n"))
	if line = bytes.TrimSuffix(line, []byte("\r")); len(line) == 0 {
		return "", fail(exitUsage, "", "%s: its first line, the password, is empty", file)
	}
	return string(line), nil
}

func (e *env) askPassword() (string, error) {
	terminal, ok := e.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(terminal.Fd())) {
		return "", fail(exitUsage, "name a file with --password-file", "there is no terminal to ask for the password")
	}
	before, err := term.MakeRaw(int(terminal.Fd())) // before the first prompt is seen: what is typed ahead must not show
	if err != nil {
		return "", err
	}
	defer term.Restore(int(terminal.Fd()), before)
	t := term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{terminal, e.stderr}, "")
	var said [2]string
	for i, prompt := range []string{"password of the PKCS#12 file: ", "the same again: "} {
		said[i], err = t.ReadPassword(prompt)
		if errors.Is(err, io.EOF) { // Ctrl-C or Ctrl-D
			return "", fail(exitInterrupted, "run it again", "no password was typed")
		}
		if err != nil {
			return "", err
		}
	}
	if said[0] != said[1] || said[0] == "" {
		return "", fail(exitUsage, "run it again", "the two passwords differ, or are empty")
	}
	return said[0], nil
}

// write writes the answer to --out or to standard output. A crash before the end leaves no --out, and running it again gets the same certificate.
func (w *deviceWriter) write(ctx context.Context, cl *client.Client, a client.Answer) error {
	d, err := w.device(ctx, cl, a)
	if err != nil {
		return err
	}
	data, err := w.form.Write(d)
	if err != nil {
		return err
	}
	if err := w.drawQR(a); err != nil {
		return err
	}
	mode := os.FileMode(modePublic)
	if w.form.Secret(d) {
		mode = modeSecret
	}
	if w.o.Out != "" {
		if err := writeNewFile(w.o.Out, data, mode); err != nil {
			return err
		}
	}
	switch {
	case w.e.output != asTable:
		return w.e.printOne(a, "")
	case w.o.Out == "":
		_, err = w.e.stdout.Write(data)
		return err
	}
	w.e.talk("certificate %s for %s in %s", a.Serial, a.DeviceID, w.o.Out)
	return nil
}

// device puts together what the form is made of.
func (w *deviceWriter) device(ctx context.Context, cl *client.Client, a client.Answer) (d *format.Device, err error) {
	var above []byte
	if w.o.Chain || w.form.Chain == format.Must {
		if above, err = cl.Chain(ctx, w.o.Order); err != nil {
			return nil, problemError(err)
		}
	}
	if d, err = format.NewDevice(a, above); err != nil {
		return nil, fail(exitVerify, "", "%w", err)
	}
	d.Password = w.password
	if w.key != nil {
		err = d.SetKey(w.key)
	}
	return d, err
}

// drawQR draws the code. The same code may be there already: of a run that did not get to its end.
func (w *deviceWriter) drawQR(a client.Answer) error {
	if w.o.QR == "" {
		return nil
	}
	data, err := format.QR(a, w.o.QR)
	if err != nil {
		return err
	}
	old, err := os.ReadFile(w.o.qrFile())
	switch {
	case errors.Is(err, os.ErrNotExist):
		return writeFile(w.o.qrFile(), data, modePublic)
	case err == nil && slices.Equal(old, data):
		return nil
	}
	return mustBeNew(w.o.qrFile())
}
