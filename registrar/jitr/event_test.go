package jitr

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

const sampleEvent = `{"certificateId":"%s","caCertificateId":"%s","timestamp":1790000000123,"certificateStatus":"PENDING_ACTIVATION",
 "awsAccountId":"111122223333","certificateRegistrationTimestamp":%s,"clientid":"unit-1"}`

// rules J-03, J-04, J-07
func TestParseEvent(t *testing.T) {
	for _, c := range []struct {
		registered string
		want       time.Time
	}{
		{`"1780000000456"`, time.UnixMilli(1780000000456).UTC()},
		{`null`, time.Time{}},
	} {
		got, err := ParseEvent(fmt.Appendf(nil, sampleEvent, device, ourCA, c.registered))
		if err != nil {
			t.Fatal(err)
		}
		want := Event{CertificateID: device, CACertificateID: ourCA, Account: "111122223333", Status: pending,
			At: time.UnixMilli(1790000000123).UTC(), Registered: c.want}
		if got != want {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
	}
}

func TestParseEventRefuses(t *testing.T) {
	good := fmt.Sprintf(sampleEvent, device, ourCA, "null")
	for name, bad := range map[string]string{
		"empty":                "",
		"a list":               "[]",
		"no certificate":       strings.Replace(good, `"certificateId"`, `"x"`, 1),
		"an ARN for an id":     strings.Replace(good, device, "arn:aws:iot:eu-west-1:111122223333:cert/"+device, 1),
		"upper case":           strings.Replace(good, device, strings.ToUpper(device), 1),
		"no CA":                strings.Replace(good, ourCA, "", 1),
		"no account":           strings.Replace(good, "111122223333", "1111", 1),
		"timestamp as text":    strings.Replace(good, "1790000000123", `"yesterday"`, 1),
		"timestamp negative":   strings.Replace(good, "1790000000123", "-1", 1),
		"registered as number": strings.Replace(good, "null", "1780000000456", 1),
		"registered as words":  strings.Replace(good, "null", `"yesterday"`, 1),
		"too large":            good + strings.Repeat(" ", maxEvent),
	} {
		if e, err := ParseEvent([]byte(bad)); err == nil {
			t.Errorf("%s: taken as %+v", name, e)
		}
	}
}

func FuzzParseEvent(f *testing.F) {
	f.Add(fmt.Appendf(nil, sampleEvent, device, ourCA, `"1780000000456"`))
	f.Add(fmt.Appendf(nil, sampleEvent, device, ourCA, `null`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if e, err := ParseEvent(data); err == nil && (!hexID.MatchString(e.CertificateID) || e.At.IsZero()) {
			t.Errorf("taken: %+v", e)
		}
	})
}
