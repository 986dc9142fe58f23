package main

import (
	"context"
	"encoding/pem"
	"errors"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/certmill/certmill/issuer/client"
	"github.com/certmill/certmill/issuer/client/format"
)

// issueOptions are the flags of issue.
type issueOptions struct {
	Order, Device, CSR string
	Slot, ClientRef    string
	Format, Out        string
	Chain              bool
	Key, PasswordFile  string
	QR                 string
	In, Rejects        string
	Files, Keys        string
	Resume             bool
	Parallel           int
	Spool              string
	Replay             bool
	Station            string
	Wait               time.Duration
}

func newIssueCommand(e *env) *cobra.Command {
	var o issueOptions
	c := &cobra.Command{
		Use:   "issue {--order O {--device ID --csr FILE | --in FILE --out FILE} | --replay}",
		Short: "Ask for device certificates as a station: one, or a file of them",
		Long: "Sends CSRs to the service with a station's certificate and writes what comes back. Repeating a request is safe: the same order,\n" +
			"device and key always get the same certificate. While the service is away the question is repeated until --wait has passed.\n\n" +
			"-c names a station.yaml; or a certmill.yaml, beside which stations/NAME/station.yaml is looked for.\n\n" +
			"Formats: pem (--chain adds the certificates above, without the root), der, p12 (with --key and a password), p7b (PKCS#7, DER),\n" +
			"c-array (a C header), json (the service's answer), esp-secure-cert (the CSV of Espressif's tool), label (CSV with serial, certificate\n" +
			"id and the text of the QR code). --qr draws that code beside --out. --key is read here and never sent; what holds it is written for\n" +
			"its owner alone.\n\n" +
			"Spool: with --spool, or spool: in station.yaml, a request without an answer is kept. The next run sends what waits first, in order,\n" +
			"and --replay sends it alone; late answers stand in the spool's folder answered/ until the same request takes them.\n\n" +
			"Bulk: --in holds one request a line, as JSON ({\"device_id\",\"csr\",\"client_ref\",\"slot\"}) or CSV (device_id, csr or csr_file, …);\n" +
			"--out gets one answer a line in the same order. Problems go to --rejects, or to --out where it is not given; then the exit code is 3.\n" +
			"--resume goes on where an interrupted run stopped. Bulk needs no spool: --in is one. --files writes a file in --format for each device too.",
		Example: "  certmill issue -c stations/line-1/station.yaml --order O-1 --device DEMO-000001 --csr csr.pem --out cert.pem\n" +
			"  certmill issue -c stations/line-1/station.yaml --order O-1 --in devices.jsonl --out certs.jsonl --rejects rejects.jsonl --resume\n" +
			"  certmill issue --order O-1 --device DEMO-000001 --csr csr.pem --format p12 --key key.pem --password-file pass --out DEMO-000001.p12",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return err
			}
			cl, station, err := e.stationClient(o.Station)
			if err != nil {
				return err
			}
			defer cl.Close()
			if o.Spool == "" {
				o.Spool = station.Spool
			}
			switch {
			case o.In != "":
				return e.issueBulk(c.Context(), cl, o)
			case o.Replay:
				return e.replaySpool(c.Context(), cl, o)
			}
			return e.issueOne(c.Context(), cl, o)
		},
	}
	f := c.Flags()
	f.StringVar(&o.Order, "order", "", "`ID` of the order to draw on")
	f.StringVar(&o.Device, "device", "", "device `ID`; left out where the profile takes it from the CSR")
	f.StringVar(&o.CSR, "csr", "", "`FILE` with the CSR, PEM or DER; - for standard input")
	f.StringVar(&o.Slot, "slot", "", "`NAME` of the certificate among the device's (default main)")
	f.StringVar(&o.ClientRef, "client-ref", "", "`TEXT` that comes back with the answer")
	f.StringVar(&o.Format, "format", "pem", strings.Join(format.Names(), ", ")+"; for --out and standard output")
	f.BoolVar(&o.Chain, "chain", false, "with the certificates above (pem, c-array; p12, p7b and esp-secure-cert have them always)")
	f.StringVar(&o.Key, "key", "", "`FILE` with the device's private key, for p12, c-array and esp-secure-cert")
	f.StringVar(&o.PasswordFile, "password-file", "", "`FILE` with the password of the p12; asked for at a terminal where it is not given")
	f.StringVar(&o.QR, "qr", "", "draw the label's QR code beside --out: svg or png")
	f.StringVar(&o.Out, "out", "", "`FILE` for the certificate, or for the answers of --in")
	f.StringVar(&o.In, "in", "", "`FILE` of requests, .jsonl or .csv")
	f.StringVar(&o.Files, "files", "", "`folder` that gets a file in --format for each device of --in")
	f.StringVar(&o.Keys, "keys", "", "`folder` of keygen with the devices' private keys, for --files")
	f.StringVar(&o.Rejects, "rejects", "", "`FILE` for the requests that were refused")
	f.BoolVar(&o.Resume, "resume", false, "go on where an interrupted run stopped; also starts from nothing")
	f.IntVar(&o.Parallel, "parallel", 4, "connections of a bulk run")
	f.StringVar(&o.Spool, "spool", "", "`folder` that keeps a request until it has its answer")
	f.BoolVar(&o.Replay, "replay", false, "send what waits in the spool, and nothing else")
	f.StringVar(&o.Station, "station", "", "`NAME` of the station, where -c names a certmill.yaml with several")
	f.DurationVar(&o.Wait, "wait", 30*time.Second, "how long to repeat a question while the service is away")
	return c
}

// check refuses flags that do not go together.
func (o issueOptions) check() error {
	single := o.CSR != "" || o.Device != ""
	switch {
	case o.Replay && (single || o.In != ""):
		return fail(exitUsage, "", "--replay goes alone")
	case o.Replay:
		return nil
	case o.Order == "":
		return fail(exitUsage, "certmill order list shows the orders", "--order is missing")
	case single == (o.In != ""):
		return fail(exitUsage, "certmill issue --help", "give either --csr (with --device), or --in and --out")
	case single:
		return o.checkSingle()
	}
	return o.checkBulk()
}

func (o issueOptions) checkSingle() error {
	switch {
	case o.CSR == "":
		return fail(exitUsage, "make one with: certmill keygen --csr --device "+o.Device+" --out DIR", "--csr is missing")
	case o.Resume || o.Rejects != "" || o.Files != "" || o.Keys != "":
		return fail(exitUsage, "", "--resume, --rejects, --files and --keys go with --in")
	}
	return o.checkFormat()
}

func (o issueOptions) checkBulk() error {
	switch {
	case o.Out == "":
		return fail(exitUsage, "", "--in needs --out")
	case o.In == o.Out || o.In == o.Rejects || o.Out == o.Rejects:
		return fail(exitUsage, "", "--in, --out and --rejects are three files")
	case o.Parallel < 1 || o.Parallel > maxParallel:
		return fail(exitUsage, "", "--parallel %d: give a number from 1 to %d", o.Parallel, maxParallel)
	}
	return o.checkFiles()
}

// stationClient finds the station's files and makes its client.
func (e *env) stationClient(name string) (*client.Client, client.Station, error) {
	path, err := e.stationFile(name)
	if err != nil {
		return nil, client.Station{}, err
	}
	return e.stationClientFile(path)
}

// stationClientFile makes the client of a station.yaml.
func (e *env) stationClientFile(path string) (*client.Client, client.Station, error) {
	s, err := client.LoadStation(path)
	if err != nil {
		return nil, s, fail(exitConfig, "certmill station add NAME --out DIR writes one", "station: %w", err)
	}
	cl, err := client.New(s)
	if err != nil {
		return nil, s, fail(exitConfig, "", "station: %w", err)
	}
	return cl, s, nil
}

// stationFile is -c where that is a station.yaml, else the station beside the certmill.yaml: the named one, or the only one.
func (e *env) stationFile(name string) (string, error) {
	path, err := e.configPath()
	if err != nil {
		return "", err
	}
	if _, err := e.loadConfig(); err != nil {
		if name == "" && !exists(filepath.Join(filepath.Dir(path), "ledger")) {
			return path, nil // not a plant's: LoadStation says what is wrong with it, if anything is
		}
		return "", err
	}
	glob := filepath.Join(filepath.Dir(path), "stations", "*", "station.yaml")
	if name != "" {
		glob = filepath.Join(filepath.Dir(path), "stations", name, "station.yaml")
	}
	found, err := filepath.Glob(glob)
	switch {
	case err != nil:
		return "", err
	case len(found) == 1:
		return found[0], nil
	case len(found) == 0:
		return "", fail(exitConfig, "name a station.yaml with -c; certmill station add NAME --out DIR writes one", "no station at %s", glob)
	}
	return "", fail(exitUsage, "choose with --station NAME", "%d stations at %s", len(found), glob)
}

// issueOne asks for one certificate and writes it in the asked form.
func (e *env) issueOne(ctx context.Context, cl *client.Client, o issueOptions) error {
	csr, err := e.readInput(o.CSR, client.MaxLine)
	if err != nil {
		return err
	}
	w, err := e.newDeviceWriter(o, csr) // whatever may be wrong at this side is found before the order is debited
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, o.Wait)
	defer cancel()
	answer, taken, err := askSpooled(ctx, cl, o, client.Request{DeviceID: o.Device, CSR: csrText(csr), Slot: o.Slot, ClientRef: o.ClientRef})
	if err != nil {
		return problemError(err)
	}
	if err := w.write(ctx, cl, answer); err != nil {
		return err
	}
	return taken()
}

// csrText is how a CSR travels: PEM as it is, DER as PEM.
func csrText(csr []byte) string {
	if block, _ := pem.Decode(csr); block != nil {
		return string(csr)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr}))
}

// problemError gives a refusal of the service its exit code.
func problemError(err error) error {
	var p *client.Problem
	switch {
	case errors.As(err, &p):
		return fail(problemExit(p), "", "%w", err)
	case errors.Is(err, context.DeadlineExceeded):
		return fail(exitTryAgain, "is certmill serve running, and does station.yaml name its address?", "%w", err)
	}
	return err
}

// problemExit maps codes to exit codes, here alone.
func problemExit(p *client.Problem) int {
	switch p.Code {
	case client.CodeHSMUnavailable:
		return exitNoHSM
	case client.CodeStoreReadOnly:
		return exitStorage
	case client.CodeNotAllowed, client.CodeStationNotAllowed:
		return exitNotAllowed
	case client.CodeInvalid:
		return exitUsage
	}
	if p.Retryable {
		return exitTryAgain
	}
	return exitFailed
}
