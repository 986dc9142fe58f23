package format

import (
	"bytes"
	"crypto/x509"
	"fmt"
)

// writeC makes a C header: DER in constant arrays, which mbedTLS, wolfSSL and BearSSL read as they are. The arrays are static, so that the
// header may be included in several files, and a compiler drops those that are not used.
func writeC(d *Device) ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "/* Written by certmill for one device: serial %s, certificate id %s. */\n", d.Answer.Serial, d.Answer.CertificateID)
	b.WriteString("#ifndef CERTMILL_DEVICE_H\n#define CERTMILL_DEVICE_H\n\n")
	fmt.Fprintf(&b, "#define CERTMILL_DEVICE_ID %s\n", cString(d.Answer.DeviceID))
	cArray(&b, "device_cert", d.Leaf.Raw)
	for i, c := range d.Above {
		cArray(&b, fmt.Sprintf("device_ca_%d", i+1), c.Raw)
	}
	if d.Key != nil {
		der, err := x509.MarshalPKCS8PrivateKey(d.Key)
		if err != nil {
			return nil, err
		}
		cArray(&b, "device_key", der)
	}
	b.WriteString("\n#endif\n")
	return b.Bytes(), nil
}

func cArray(b *bytes.Buffer, name string, data []byte) {
	fmt.Fprintf(b, "\n#define %s_len %du\nstatic const unsigned char %s[%s_len] = {", name, len(data), name, name)
	for i, v := range data {
		if i%16 == 0 {
			b.WriteString("\n ")
		}
		fmt.Fprintf(b, " 0x%02x,", v)
	}
	b.WriteString("\n};\n")
}

// cString quotes text for C: what is no letter or digit becomes an octal escape of full length, so that nothing in an id can end the
// literal, begin a comment or a trigraph, or swallow the digit behind it.
func cString(s string) string {
	var b bytes.Buffer
	b.WriteByte('"')
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == ':', c == '.', c == ' ':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "\\%03o", c)
		}
	}
	b.WriteByte('"')
	return b.String()
}
