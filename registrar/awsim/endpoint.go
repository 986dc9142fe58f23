package awsim

import (
	"crypto/sha256"
	"math/big"
	"strings"
)

// endpoints finds the account of an endpoint name: region/prefix → account. DescribeEndpoint makes the name at its first use.
const endpoints table[string] = "endpoints"

const prefixLength = 13 // behind the leading a

// prefix is the first label of a place's endpoint: the same for ever, in every simulator.
func (p place) prefix() string {
	sum := sha256.Sum256([]byte("awsim endpoint " + p.account + "/" + p.region))
	digits := new(big.Int).SetBytes(sum[:]).Text(36)
	return "a" + digits[len(digits)-prefixLength:]
}

// endpointTypes says what stands between prefix and region for each type (rules section 4.3).
func endpointLabel(kind string) (label string, known bool) {
	switch kind {
	case "", "iot:Data":
		return ".iot.", true
	case "iot:Data-ATS":
		return "-ats.iot.", true
	case "iot:CredentialProvider":
		return ".credentials.iot.", true
	case "iot:Jobs":
		return ".jobs.iot.", true
	}
	return "", false
}

func describeEndpoint(c *call) (any, error) {
	kind := c.query("endpointType")
	label, known := endpointLabel(kind)
	if !known {
		return nil, invalidRequest("endpointType %q is not known", kind)
	}
	prefix := c.prefix()
	if err := endpoints.put(c.tx, c.region+"/"+prefix, &c.account); err != nil {
		return nil, err
	}
	return object{"endpointAddress": prefix + label + c.region + "." + c.sim.cfg.EndpointSuffix}, nil
}

// placeOf finds the account and region of a server name that a device asked for, none where it is no endpoint's (T-06, T-07).
func (s *Sim) placeOf(tx *tx, serverName string) (place, bool, error) {
	name, ok := strings.CutSuffix(strings.ToLower(serverName), "."+s.cfg.EndpointSuffix)
	if !ok {
		return place{}, false, nil
	}
	prefix, region, ok := strings.Cut(name, "-ats.iot.")
	if !ok {
		return place{}, false, nil
	}
	account, err := endpoints.get(tx, region+"/"+prefix)
	if err != nil || account == nil {
		return place{}, false, err
	}
	return place{*account, region}, true, nil
}
