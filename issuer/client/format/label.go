package format

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"strings"

	"rsc.io/qr"

	"github.com/certmill/certmill/issuer/client"
)

// QRText is what a label's QR code says: CERTMILL1:SERIAL:CERTIFICATE-ID:DEVICE-ID. The hex digits are capitals, because a QR code takes
// capitals, digits and colons in two thirds of the space (ISO/IEC 18004, alphanumeric mode); the device id comes last, as it may hold colons.
func QRText(a client.Answer) string {
	return "CERTMILL1:" + strings.ToUpper(a.Serial) + ":" + strings.ToUpper(a.CertificateID) + ":" + a.DeviceID
}

// Labels makes the CSV that a label printer's program merges: one row a device.
func Labels(answers ...client.Answer) ([]byte, error) {
	rows := [][]string{{"device_id", "serial", "certificate_id", "qr"}}
	for _, a := range answers {
		rows = append(rows, []string{a.DeviceID, a.Serial, a.CertificateID, QRText(a)})
	}
	var b bytes.Buffer
	err := csv.NewWriter(&b).WriteAll(rows)
	return b.Bytes(), err
}

// quiet is the margin that a QR code needs on every side, in modules (ISO/IEC 18004 section 5.3.8).
const quiet = 4

// QR draws the label's code: kind is png or svg. Level M: 15 % of the code words may be scratched off.
func QR(a client.Answer, kind string) ([]byte, error) {
	code, err := qr.Encode(QRText(a), qr.M)
	if err != nil {
		return nil, err
	}
	switch kind {
	case "png":
		return code.PNG(), nil
	case "svg":
		return svg(code), nil
	}
	return nil, fmt.Errorf("QR codes are drawn as png or svg, not %q", kind)
}

// svg draws every row's runs of black modules as one path.
func svg(code *qr.Code) []byte {
	var b bytes.Buffer
	size := code.Size + 2*quiet
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" shape-rendering="crispEdges">`+"\n", size, size)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#fff"/><path d="`, size, size)
	for y := range code.Size {
		for x := 0; x < code.Size; x++ {
			from := x
			for code.Black(x, y) {
				x++
			}
			if x > from {
				fmt.Fprintf(&b, "M%d %dh%dv1h-%dz", from+quiet, y+quiet, x-from, x-from)
			}
		}
	}
	b.WriteString("\"/>\n</svg>\n")
	return b.Bytes()
}
