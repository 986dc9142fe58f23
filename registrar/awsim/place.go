package awsim

import "strings"

// place is an account in a region: where a resource of AWS IoT lives.
type place struct{ account, region string }

// key gives a resource of the place its key in the store.
func (p place) key(id string) string { return p.account + "/" + p.region + "/" + id }

// arn names a resource of AWS IoT; what is as "cacert/ID" (CA-44).
func (p place) arn(what string) string {
	return "arn:aws:iot:" + p.region + ":" + p.account + ":" + what
}

// global is the place of what an account has once: its IAM.
func global(account string) place { return place{account, "aws-global"} }

// placeOfKey reads region/account, the order of keys that are looked up by region first.
func placeOfKey(key string) place {
	region, account, _ := strings.Cut(key, "/")
	return place{account, region}
}
