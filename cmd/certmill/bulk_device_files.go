package main

import (
	"context"
	"os"
	"path/filepath"

	"github.com/certmill/certmill/issuer/client"
	"github.com/certmill/certmill/issuer/client/format"
)

// deviceFiles writes a file for each device of a bulk run, before its answer stands in --out. So a line of --out says that the file is there; after a crash
// the files of a batch whose lines are missing are written again, with the same certificates.
type deviceFiles struct {
	e         *env
	dir, keys string // keys is "" where no form needs one
	form      format.Form
	qr        string // svg, png or none
	above     []byte
	password  string
}

// endings are the names that programs expect of each form.
var endings = map[string]string{"pem": ".pem", "der": ".der", "p12": ".p12", "p7b": ".p7b", "c-array": ".h", "json": ".json",
	"esp-secure-cert": ".csv", "label": ".csv"}

// checkFiles refuses what the form cannot do for the devices of a bulk run.
func (o issueOptions) checkFiles() error {
	form, _ := format.ByName(o.Format)
	switch {
	case o.Key != "" || o.Spool != "":
		return fail(exitUsage, "--keys DIR names the folder of keygen; --in is its own spool", "--key and --spool go with --csr, not with --in")
	case o.Files == "" && (o.Format != "pem" || o.Chain || o.Keys != "" || o.PasswordFile != "" || o.QR != ""):
		return fail(exitUsage, "--out gets one JSON answer a line; --files DIR gets a file for each device", "--format, --chain, --keys, --password-file and --qr need --files")
	case o.Files == "":
		return nil
	case form.Key == format.Must && o.Keys == "":
		return fail(exitUsage, "certmill keygen --csr --ids FILE --out DIR makes keys and CSRs", "format %s needs --keys", o.Format)
	}
	o.Key = o.Keys // what holds for one device holds for all
	o.Out = filepath.Join(o.Files, "ID"+endings[o.Format])
	return o.checkFormat()
}

// newDeviceFiles gets what all files share: the chain and the password.
func (e *env) newDeviceFiles(ctx context.Context, cl *client.Client, o issueOptions) (f *deviceFiles, err error) {
	if o.Files == "" {
		return nil, nil
	}
	f = &deviceFiles{e: e, dir: o.Files, keys: o.Keys, qr: o.QR}
	f.form, _ = format.ByName(o.Format)
	if f.form.Name == "p12" {
		if f.password, err = e.readPassword(o.PasswordFile); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(f.dir, modeOwnDir); err != nil {
		return nil, fail(exitUsage, "check the path of --files", "%w", err)
	}
	if o.Chain || f.form.Chain == format.Must {
		ctx, cancel := context.WithTimeout(ctx, o.Wait)
		defer cancel()
		if f.above, err = cl.Chain(ctx, o.Order); err != nil {
			return nil, problemError(err)
		}
	}
	return f, nil
}

// write writes the files of a batch's certificates.
func (f *deviceFiles) write(lines []client.Line) error {
	if f == nil {
		return nil
	}
	for _, l := range lines {
		if l.Problem != nil {
			continue
		}
		if err := f.writeOne(l.Answer); err != nil {
			return fail(exitFailed, "put it right and run it again with --resume", "files of %s: %w", l.Answer.DeviceID, err)
		}
	}
	return nil
}

func (f *deviceFiles) writeOne(a client.Answer) error {
	d, err := format.NewDevice(a, f.above)
	if err != nil {
		return err
	}
	d.Password = f.password
	mode, base := os.FileMode(modePublic), filepath.Join(f.dir, fileName(a.DeviceID))
	if f.keys != "" {
		key, err := f.e.readKey(filepath.Join(f.keys, fileName(a.DeviceID)+".key"))
		if err == nil {
			err = d.SetKey(key)
		}
		if err != nil {
			return err
		}
		mode = modeSecret
	}
	data, err := f.form.Write(d)
	if err != nil {
		return err
	}
	if f.qr != "" {
		code, err := format.QR(a, f.qr)
		if err != nil {
			return err
		}
		if err := writeFile(base+"."+f.qr, code, modePublic); err != nil {
			return err
		}
	}
	return writeFile(base+endings[f.form.Name], data, mode)
}
