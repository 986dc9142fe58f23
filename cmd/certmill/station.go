package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/certmill/certmill/internal/server"
	"github.com/certmill/certmill/issuer"
)

func newStationCommand(e *env) *cobra.Command {
	c := &cobra.Command{Use: "station", Short: "Line stations: who may ask for certificates"}
	c.AddCommand(newStationAddCommand(e), newStationListCommand(e), newStationDisableCommand(e))
	return c
}

func newStationAddCommand(e *env) *cobra.Command {
	var out, csr string
	c := &cobra.Command{
		Use:   "add NAME --out DIR [--csr FILE]",
		Short: "Give a station its certificate",
		Long: "Records the station and has the plant CA sign its certificate. Writes into DIR: station.crt, ca.crt, station.yaml, and, unless the\n" +
			"station sends its own --csr, station.key. Running it again with the same DIR finishes what was interrupted.",
		Example: "  certmill station add line-1 --out stations/line-1\n  certmill station add line-2 --csr line-2.csr --out stations/line-2",
		Args:    cobra.ExactArgs(1),
	}
	c.Flags().StringVar(&out, "out", "", "`folder` for the station's files")
	c.Flags().StringVar(&csr, "csr", "", "`FILE` with the station's own CSR, PEM or DER; its key stays with it")
	offline := addOffline(c.Flags())
	c.RunE = func(c *cobra.Command, args []string) error {
		if out == "" {
			return fail(exitUsage, "certmill station add "+args[0]+" --out stations/"+args[0], "--out is missing")
		}
		cfg, err := e.loadConfig()
		if err != nil {
			return err
		}
		der, err := e.stationRequest(args[0], out, csr)
		if err != nil {
			return err
		}
		return e.admin(c.Context(), access{forSigning, offline}, func(ctx context.Context, a *server.AdminClient) error {
			added, err := addStation(ctx, a, cfg, newStation{args[0], out, der})
			if err != nil {
				return err
			}
			return e.printOne(added, fmt.Sprintf("%s: certificate %s, files in %s", added.Name, added.Serial, out))
		})
	}
	return c
}

// newStation is what a station is made of.
type newStation struct {
	name, dir string
	csr       []byte // DER
}

// addStation has the certificate made and writes the files of a station. station.yaml comes last: where it is, the rest is too.
func addStation(ctx context.Context, a *server.AdminClient, cfg *Config, s newStation) (issuer.Station, error) {
	added, err := a.AddStation(ctx, s.name, s.csr)
	if err != nil {
		return issuer.Station{}, err
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: added.Certificate})
	conf := fmt.Sprintf("# station %s: certmill issue -c this-file …\nserver: https://%s\n", s.name, stationsAddress(cfg))
	return added.Station, errors.Join(
		writeFile(filepath.Join(s.dir, "station.crt"), cert, modePublic),
		writeFile(filepath.Join(s.dir, "ca.crt"), added.Plant, modePublic),
		writeFile(filepath.Join(s.dir, "station.yaml"), []byte(conf), modePublic))
}

// stationsAddress is the address stations are told; a listener on all addresses is reached by the machine's name.
func stationsAddress(cfg *Config) string {
	host, port, err := net.SplitHostPort(cfg.Listen.Stations)
	if ip := net.ParseIP(host); err != nil || host != "" && (ip == nil || !ip.IsUnspecified()) {
		return cfg.Listen.Stations
	}
	if host, err = os.Hostname(); err != nil {
		return cfg.Listen.Stations
	}
	return net.JoinHostPort(host, port)
}

// stationRequest returns the station's CSR in DER: the given one, or one for the key in its folder, which is made where it is missing.
func (e *env) stationRequest(name, dir, file string) ([]byte, error) {
	if file != "" {
		data, err := e.readInput(file, 64<<10)
		if err != nil {
			return nil, err
		}
		if block, _ := pem.Decode(data); block != nil {
			return block.Bytes, nil
		}
		return data, nil
	}
	path := filepath.Join(dir, "station.csr")
	if csr, err := os.ReadFile(path); err == nil { // an interrupted call made it: the same request gets the same certificate
		return csr, nil
	}
	key, err := stationKey(filepath.Join(dir, "station.key"))
	if err != nil {
		return nil, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, key)
	if err != nil {
		return nil, err
	}
	return csr, writeFile(path, csr, modePublic)
}

// stationKey reads the key or makes it.
func stationKey(path string) (*ecdsa.PrivateKey, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return newStationKey(path)
	}
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fail(exitUsage, "remove it to have a new one made", "%s holds no PEM", path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	ec, ok := key.(*ecdsa.PrivateKey)
	if err != nil || !ok {
		return nil, fail(exitUsage, "remove it to have a new one made", "%s holds no EC key: %w", path, err)
	}
	return ec, nil
}

func newStationKey(path string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, writeFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), modeSecret)
}

func newStationListCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "All stations",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return e.admin(c.Context(), reads, func(ctx context.Context, a *server.AdminClient) error {
				stations, err := a.Stations(ctx)
				if err != nil {
					return err
				}
				return printList(e, stations, "NAME STATE SERIAL NOT-AFTER ADDED BY", func(s issuer.Station) []string {
					return []string{s.Name, s.State, s.Serial, s.NotAfter.Format(time.RFC3339), s.Added.Format(time.RFC3339), s.By}
				})
			})
		},
	}
}

func newStationDisableCommand(e *env) *cobra.Command {
	var reason string
	c := &cobra.Command{
		Use:   "disable NAME",
		Short: "Keep a station out, from its next request on",
		Args:  cobra.ExactArgs(1),
	}
	c.Flags().StringVar(&reason, "reason", "not given", "`WHY`, for the record")
	offline := addOffline(c.Flags())
	c.RunE = func(c *cobra.Command, args []string) error {
		return e.admin(c.Context(), access{forRecord, offline}, func(ctx context.Context, a *server.AdminClient) error {
			if err := a.DisableStation(ctx, args[0], reason); err != nil {
				return err
			}
			return e.printOne(map[string]string{"name": args[0], "state": "disabled"}, args[0]+" is disabled")
		})
	}
	return c
}
