package format

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/csv"
	"encoding/pem"
	"fmt"
	"strconv"
)

// espColumns are those of docs/esp_secure_cert_tools/configure_esp_secure_cert_csv.md in espressif/esp_secure_cert_mgr.
var espColumns = []string{"tlv_type", "tlv_subtype", "data_value", "data_type", "priv_key_type", "algorithm", "key_size", "efuse_id", "efuse_key"}

// writeESP makes the CSV that Espressif's configure_esp_secure_cert.py turns into the flash partition esp_secure_cert: the certificate of the
// device, those above it as CA certificates 0, 1, …, and, where the station has it, the private key, as plain text. A chip that has made its
// own key needs no row for it.
func writeESP(d *Device) ([]byte, error) {
	rows := [][]string{espColumns}
	for i, c := range d.Above {
		rows = append(rows, espRow("ESP_SECURE_CERT_CA_CERT_TLV", i, pemOf(c), "", "", ""))
	}
	rows = append(rows, espRow("ESP_SECURE_CERT_DEV_CERT_TLV", 0, pemOf(d.Leaf), "", "", ""))
	if d.Key != nil {
		algorithm, size, err := espKey(d.Key.Public())
		if err != nil {
			return nil, err
		}
		der, err := x509.MarshalPKCS8PrivateKey(d.Key)
		if err != nil {
			return nil, err
		}
		text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
		rows = append(rows, espRow("ESP_SECURE_CERT_PRIV_KEY_TLV", 0, text, "plaintext", algorithm, strconv.Itoa(size)))
	}
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	err := w.WriteAll(rows)
	return b.Bytes(), err
}

func espRow(tlv string, subtype int, text []byte, keyType, algorithm, size string) []string {
	return []string{tlv, strconv.Itoa(subtype), string(bytes.TrimSpace(text)), "string", keyType, algorithm, size, "", ""}
}

func espKey(pub any) (algorithm string, bits int, err error) {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		return "ECDSA", k.Params().BitSize, nil
	case *rsa.PublicKey:
		return "RSA", k.N.BitLen(), nil
	}
	return "", 0, fmt.Errorf("esp_secure_cert has no name for keys of kind %T", pub)
}
