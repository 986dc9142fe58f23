package format_test

import (
	"fmt"
	"os"

	"github.com/certmill/certmill/issuer/client"
	"github.com/certmill/certmill/issuer/client/format"
)

// A station writes what it was answered as the file that its flash tool takes.
func Example() {
	write := func(answer client.Answer, chain []byte, path string) error {
		device, err := format.NewDevice(answer, chain) // the chain comes from Client.Chain
		if err != nil {
			return err
		}
		form, _ := format.ByName("c-array")
		data, err := form.Write(device)
		if err != nil {
			return err
		}
		return os.WriteFile(path, data, 0o600)
	}
	_ = write
	fmt.Println(format.Names())
	// Output: [pem der p12 p7b c-array json esp-secure-cert label]
}

func ExampleQRText() {
	fmt.Println(format.QRText(client.Answer{DeviceID: "DEMO-000001", Serial: "01a2", CertificateID: "ff00"}))
	// Output: CERTMILL1:01A2:FF00:DEMO-000001
}
