package registrar

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Place is an account and a region in it. An empty region stands for what an account has once, such as its roles.
type Place struct {
	Account string `json:"account"`
	Region  string `json:"region,omitempty"`
}

// String gives the place as people write it: "111111111111 eu-central-1".
func (p Place) String() string {
	if p.Region == "" {
		return p.Account
	}
	return p.Account + " " + p.Region
}

func comparePlaces(a, b Place) int {
	return cmp.Or(strings.Compare(a.Account, b.Account), strings.Compare(a.Region, b.Region))
}

// arn names a resource of AWS IoT at this place; what is as "rule/NAME" (CA-44).
func (p Place) arn(what string) string {
	return fmt.Sprintf("arn:%s:iot:%s:%s:%s", partition(p.Region), p.Region, p.Account, what)
}

// fill replaces the placeholders of fleet.yaml and of template files.
func (p Place) fill(text string) string {
	return strings.NewReplacer("{account}", p.Account, "{region}", p.Region).Replace(text)
}

// partition gives the part of AWS that a region belongs to; accounts do not cross it.
func partition(region string) string {
	switch {
	case strings.HasPrefix(region, "cn-"):
		return "aws-cn"
	case strings.HasPrefix(region, "us-gov-"):
		return "aws-us-gov"
	}
	return "aws"
}

var (
	accountPattern = regexp.MustCompile(`^[0-9]{12}$`)
	regionPattern  = regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-[0-9]$`)
)

// hasIoT reports whether AWS IoT Core was in a region when this was written (rules section 9). AWS opens new ones.
func hasIoT(region string) bool {
	return slices.Contains([]string{
		"us-east-1", "us-east-2", "us-west-1", "us-west-2", "ca-central-1", "sa-east-1", "eu-central-1", "eu-west-1", "eu-west-2", "eu-west-3",
		"eu-north-1", "eu-south-1", "eu-south-2", "ap-east-1", "ap-south-1", "ap-southeast-1", "ap-southeast-2", "ap-southeast-5",
		"ap-northeast-1", "ap-northeast-2", "me-south-1", "me-central-1", "il-central-1", "cn-north-1", "cn-northwest-1", "us-gov-east-1", "us-gov-west-1",
	}, region)
}
