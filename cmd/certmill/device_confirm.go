package main

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/certmill/certmill/internal/server"
	"github.com/certmill/certmill/issuer"
	"github.com/certmill/certmill/issuer/client"
)

// confirmFlags say where the device's signature comes from.
type confirmFlags struct {
	unitFlags
	key                  string // file
	challenge, signature string
}

func newDeviceConfirmCommand(e *env) *cobra.Command {
	var f confirmFlags
	c := &cobra.Command{
		Use:   "confirm ID --key FILE | --challenge C --signature S",
		Short: "Record that a device holds the key of its certificate",
		Long: "The device signs a challenge. With --key the command does so itself, for keys that are files. Without any flag it prints a challenge and the\n" +
			"certificate id; the device signs the SHA-256 of `certmill-confirm-v1`, a NUL octet, the challenge and the id (ECDSA in ASN.1, or RSA in\n" +
			"PKCS #1 v1.5), and --challenge and --signature bring it back within the hour. Stations do the same over HTTP. Exit 7: the signature is not the device's.",
		Example: "  certmill device confirm DEMO-000001 --key key.pem\n" +
			"  certmill device confirm DEMO-000001 -o json > c.json\n" +
			"  { printf 'certmill-confirm-v1\\0'; jq -j .challenge,.certificate_id c.json; } | openssl dgst -sha256 -sign key.pem | base64 -w0 > s\n" +
			"  certmill device confirm DEMO-000001 --challenge \"$(jq -r .challenge c.json)\" --signature \"$(cat s)\"",
		Args: cobra.ExactArgs(1),
	}
	f.add(c.Flags())
	c.Flags().StringVar(&f.key, "key", "", "`FILE` with the device's private key, PEM")
	c.Flags().StringVar(&f.challenge, "challenge", "", "`TEXT` that the device has signed")
	c.Flags().StringVar(&f.signature, "signature", "", "its signature in `BASE64`")
	offline := addOffline(c.Flags())
	c.RunE = func(c *cobra.Command, args []string) error {
		key, signature, err := f.read(e)
		if err != nil {
			return err
		}
		err = e.admin(c.Context(), access{forRecord, offline}, func(ctx context.Context, a *server.AdminClient) error {
			if f.challenge == "" {
				ch, err := a.Challenge(ctx, f.product, args[0], f.slot)
				if err != nil {
					return err
				}
				if key == nil {
					return e.printOne(ch, fmt.Sprintf("challenge      %s\ncertificate_id %s\nexpires        %s", ch.Challenge.Challenge, ch.CertificateID, at(ch.Expires)))
				}
				f.challenge = ch.Challenge.Challenge
				if signature, err = key.Sign(rand.Reader, issuer.ConfirmDigest(f.challenge, ch.CertificateID), crypto.SHA256); err != nil {
					return err
				}
			}
			done, err := a.Confirm(ctx, f.product, args[0], f.slot, f.challenge, signature)
			if err != nil {
				return err
			}
			return e.printOne(done, args[0]+" confirmed "+at(done.ConfirmedAt))
		})
		return confirmError(err)
	}
	return c
}

// read checks the flags and reads what they name.
func (f *confirmFlags) read(e *env) (key crypto.Signer, signature []byte, err error) {
	switch {
	case f.key != "" && (f.challenge != "" || f.signature != ""), (f.challenge == "") != (f.signature == ""):
		return nil, nil, fail(exitUsage, "certmill device confirm --help", "give --key, or --challenge and --signature, or none to get a challenge")
	case f.signature != "":
		if signature, err = base64.StdEncoding.DecodeString(f.signature); err != nil {
			return nil, nil, fail(exitUsage, "openssl dgst -sha256 -sign key.pem | base64 -w0", "--signature is not base64: %w", err)
		}
		return nil, signature, nil
	case f.key == "":
		return nil, nil, nil
	}
	data, err := e.readInput(f.key, 64<<10)
	if err != nil {
		return nil, nil, err
	}
	key, err = parsePrivateKey(data)
	if err != nil {
		return nil, nil, fail(exitUsage, "PEM as openssl genpkey writes it, without a password", "%s: %w", f.key, err)
	}
	return key, nil, nil
}

// parsePrivateKey reads the three forms that openssl writes; an EC key may have its parameters before it.
func parsePrivateKey(data []byte) (crypto.Signer, error) {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		var key any
		var err error
		switch block.Type {
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		default:
			continue
		}
		if err != nil {
			return nil, errors.New("the private key cannot be read")
		}
		if s, ok := key.(crypto.Signer); ok {
			return s, nil
		}
		return nil, errors.New("the private key is none that signs")
	}
	return nil, errors.New("no private key in it")
}

// confirmError gives a signature that is not the device's the exit code of a verification that failed.
func confirmError(err error) error {
	var p *client.Problem
	if errors.As(err, &p) && p.Code == client.CodeCSRSignature {
		return fail(exitVerify, "is it this device's key, and this challenge?", "%w", err)
	}
	return err
}
