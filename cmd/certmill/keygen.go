package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/certmill/certmill/issuer/client/format"
)

// keygenOptions are the flags of keygen.
type keygenOptions struct {
	Device        string
	IDs, Pattern  string
	Count, First  int
	Kind, Format  string
	CSR           bool
	Out           string
	Force, Resume bool
}

// keyKinds makes keys by the names that --kind has for them.
var keyKinds = map[string]func() (crypto.Signer, error){
	"p256":    func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) },
	"p384":    func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P384(), rand.Reader) },
	"rsa2048": func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 2048) },
	"rsa3072": func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 3072) },
}

// commonNameMax is ub-common-name (RFC 5280 appendix A.1).
const commonNameMax = 64

func newKeygenCommand(e *env) *cobra.Command {
	var o keygenOptions
	c := &cobra.Command{
		Use:   "keygen --out DIR {--device ID [--csr] | --csr {--ids FILE | --count N --pattern DEMO-%06d}}",
		Short: "Make keys and CSRs for devices that cannot make their own",
		Long: "Writes DIR/ID.key, mode 0600, and with --csr DIR/ID.csr with the device id as common name. The keys stay in DIR: what issue sends is\n" +
			"the CSR. A key that is there is never replaced without --force. Characters of an id that file names do not take are written %XX.\n\n" +
			"With --ids or --count, the CSRs stand in DIR/devices.jsonl, in order, as issue --in takes them; --resume goes on where an interrupted run\n" +
			"stopped, with the keys that are there. For PKCS#12 and other files that hold key and certificate: issue --format … --key.",
		Example: "  certmill keygen --csr --device DEMO-000001 --out keys\n" +
			"  certmill keygen --csr --count 1000 --pattern DEMO-%06d --out keys && certmill issue --order O-1 --in keys/devices.jsonl --out certs.jsonl",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return err
			}
			if o.Device == "" {
				return e.keygenBulk(c.Context(), o)
			}
			return e.keygenOne(o)
		},
	}
	f := c.Flags()
	f.StringVar(&o.Device, "device", "", "device `ID`")
	f.StringVar(&o.IDs, "ids", "", "`FILE` with one device id a line")
	f.IntVar(&o.Count, "count", 0, "how many ids to count with --pattern")
	f.StringVar(&o.Pattern, "pattern", "", "ids with one number in them: `DEMO-%06d`")
	f.IntVar(&o.First, "first", 1, "number of the first id of --pattern")
	f.StringVar(&o.Kind, "kind", "p256", "p256, p384, rsa2048 or rsa3072")
	f.StringVar(&o.Format, "format", "pem", "of the key: pem or der, both PKCS#8")
	f.BoolVar(&o.CSR, "csr", false, "a CSR for each key as well")
	f.StringVar(&o.Out, "out", "", "`folder` for the files")
	f.BoolVar(&o.Force, "force", false, "replace keys that are there: what was certified with them is lost")
	f.BoolVar(&o.Resume, "resume", false, "go on where an interrupted run stopped; also starts from nothing")
	return c
}

func (o keygenOptions) check() error {
	sources := 0
	for _, given := range []bool{o.Device != "", o.IDs != "", o.Count != 0 || o.Pattern != ""} {
		if given {
			sources++
		}
	}
	switch {
	case sources != 1:
		return fail(exitUsage, "certmill keygen --help", "give --device, or --ids, or --count and --pattern")
	case o.Out == "":
		return fail(exitUsage, "", "--out is missing: the folder for the keys")
	case keyKinds[o.Kind] == nil:
		return fail(exitUsage, "use p256, p384, rsa2048 or rsa3072", "key kind %q is not known", o.Kind)
	case o.Format != "pem" && o.Format != "der":
		return fail(exitUsage, "with its certificate, issue --format p12 --key writes a PKCS#12 file", "key format %q is neither pem nor der", o.Format)
	case o.Force && o.Device == "":
		return fail(exitUsage, "choose another folder", "--force goes with --device alone")
	case o.Device != "" && o.Resume:
		return fail(exitUsage, "", "--resume goes with --ids and --count")
	case o.Device == "" && !o.CSR:
		return fail(exitUsage, "add --csr", "--ids and --count write CSRs for issue --in")
	case o.IDs == "" && o.Device == "":
		return o.checkPattern()
	}
	return checkDeviceID(o.Device, o.Device == "")
}

// checkPattern wants one number in the pattern and ids that differ.
func (o keygenOptions) checkPattern() error {
	if o.Count < 1 || o.First < 0 || !strings.Contains(o.Pattern, "%") {
		return fail(exitUsage, "certmill keygen --csr --count 1000 --pattern DEMO-%06d --out keys", "--count and --pattern go together, and the pattern has one %%d")
	}
	first, last := fmt.Sprintf(o.Pattern, o.First), fmt.Sprintf(o.Pattern, o.First+o.Count-1)
	if strings.Contains(first, "%!") || o.Count > 1 && first == last {
		return fail(exitUsage, "write it like DEMO-%06d", "pattern %q does not have exactly one whole number in it", o.Pattern)
	}
	return checkDeviceID(last, false)
}

func checkDeviceID(id string, absent bool) error {
	if !absent && (id == "" || len(id) > commonNameMax || strings.ContainsFunc(id, func(r rune) bool { return r < ' ' || r == 0x7f })) {
		return fail(exitUsage, "", "device id %q: want 1 to %d characters, none of them a control character", id, commonNameMax)
	}
	return nil
}

// keygenOne makes one key, and then its CSR: a key without one, of a run that was interrupted, gets it by running it again.
func (e *env) keygenOne(o keygenOptions) error {
	files := o.files(o.Device)
	if err := e.makeKeyFolder(o.Out); err != nil {
		return err
	}
	key, err := e.singleKey(o, files)
	if err != nil {
		return err
	}
	if o.CSR {
		text, err := csrOf(key, o.Device)
		if err != nil {
			return err
		}
		if err := writeFile(files.CSR, text, modePublic); err != nil {
			return err
		}
	}
	return e.printOne(files, strings.Join(files.paths(), "\n"))
}

// singleKey makes the key, or finds the one whose CSR is missing.
func (e *env) singleKey(o keygenOptions, files keyFiles) (crypto.Signer, error) {
	switch there := exists(files.Key); {
	case o.Force:
	case there && o.CSR && !exists(files.CSR):
		return e.readKey(files.Key)
	case there, o.CSR && exists(files.CSR):
		return nil, fail(exitUsage, "choose another folder; --force replaces it, and what was certified with it is lost",
			"%s exists already", strings.Join(slices.DeleteFunc(files.paths(), func(p string) bool { return !exists(p) }), ", "))
	}
	key, err := keyKinds[o.Kind]()
	if err != nil {
		return nil, err
	}
	if o.Force && o.CSR { // a crash must not leave a CSR beside a key that is not its own
		if err := os.Remove(files.CSR); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return key, o.writeKey(files.Key, key)
}

// keyFiles are where the files of a device are.
type keyFiles struct {
	DeviceID string `json:"device_id"`
	Key      string `json:"key"`
	CSR      string `json:"csr,omitempty"`
}

func (o keygenOptions) files(id string) keyFiles {
	f := keyFiles{DeviceID: id, Key: filepath.Join(o.Out, fileName(id)+".key")}
	if o.CSR && o.Device != "" {
		f.CSR = filepath.Join(o.Out, fileName(id)+".csr")
	}
	return f
}

func (f keyFiles) paths() []string {
	return slices.DeleteFunc([]string{f.Key, f.CSR}, func(p string) bool { return p == "" })
}

// fileName writes an id so that it is a file name on every system, and another id another name.
func fileName(id string) string {
	var b strings.Builder
	for i := range len(id) {
		switch c := id[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.' && i > 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

func (o keygenOptions) writeKey(path string, key crypto.Signer) error {
	data, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if o.Format == "pem" {
		data = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: data})
	}
	return writeFile(path, data, modeSecret)
}

// csrOf proves possession of a key and says whose it is.
func csrOf(key crypto.Signer, id string) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: id}}, key)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), err
}

// readKey reads a key that an earlier run has made.
func (e *env) readKey(path string) (crypto.Signer, error) {
	data, err := e.readInput(path, maxInspect)
	if err != nil {
		return nil, err
	}
	key, err := format.ParseKey(data)
	if err != nil {
		return nil, fail(exitUsage, "move it away, or choose another folder", "%s: %w", path, err)
	}
	return key, nil
}
