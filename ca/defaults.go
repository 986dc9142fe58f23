package ca

import "embed"

//go:embed profiles
var profiles embed.FS

// DefaultProfile returns the commented YAML of the profile that a new plant starts with, for KindDevice, KindStation or KindService;
// nil for any other kind.
func DefaultProfile(kind string) []byte {
	yaml, err := profiles.ReadFile("profiles/" + kind + ".yaml")
	if err != nil {
		return nil
	}
	return yaml
}
