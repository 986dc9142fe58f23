package registrar

import (
	"errors"
	"fmt"
)

// The types below are fleet.yaml as it is written; Fleet is what was checked.

type fleetFile struct {
	Version       int                 `yaml:"version"`
	Access        accessFile          `yaml:"access"`
	Registrations []registrationFile  `yaml:"registrations"`
	JITP          map[string]jitpFile `yaml:"jitp"`
	JITR          map[string]jitrFile `yaml:"jitr"`
	Tags          map[string]string   `yaml:"tags"`
}

type accessFile struct {
	Role       string     `yaml:"role"`
	ExternalID textOrFile `yaml:"external_id"`
	Profile    string     `yaml:"profile"`
	Endpoint   string     `yaml:"endpoint"`
}

type registrationFile struct {
	CA               string           `yaml:"ca"`
	Accounts         accountList      `yaml:"accounts"`
	Regions          []string         `yaml:"regions"`
	Mode             string           `yaml:"mode"` // default or sni-only
	Provisioning     provisioningFile `yaml:"provisioning"`
	Status           string           `yaml:"status"`            // active (where absent) or inactive
	AutoRegistration *bool            `yaml:"auto_registration"` // true where absent
	Access           accessFile       `yaml:"access"`
}

type provisioningFile struct {
	JITP string `yaml:"jitp"`
	JITR string `yaml:"jitr"`
}

type jitpFile struct {
	Template   string `yaml:"template"`
	Role       string `yaml:"role"`
	RoleCreate bool   `yaml:"role_create"`
}

type jitrFile struct {
	Rule     string `yaml:"rule"`
	Function string `yaml:"function"`
	Table    string `yaml:"table"`
	Policy   string `yaml:"policy"`
}

// textOrFile is a text, or {file: PATH} of a file that holds it.
type textOrFile struct {
	Text string
	File string
}

// UnmarshalYAML takes either form.
func (t *textOrFile) UnmarshalYAML(decode func(any) error) error {
	if err := decode(&t.Text); err == nil {
		return nil
	}
	var form struct {
		File string `yaml:"file"`
	}
	if err := decode(&form); err != nil || form.File == "" {
		return errors.New("external_id: give a text or {file: PATH}")
	}
	*t = textOrFile{File: form.File}
	return nil
}

// accountList is a list of account ids. The forms for organizations are known, so that they are refused with the right words.
type accountList []string

// UnmarshalYAML takes quoted ids: without quotes, YAML drops leading zeros.
func (a *accountList) UnmarshalYAML(decode func(any) error) error {
	var v any
	if err := decode(&v); err != nil {
		return err
	}
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			id, ok := e.(string)
			if !ok {
				return fmt.Errorf("accounts: %v is a number to YAML; write it in quotes", e)
			}
			*a = append(*a, id)
		}
		return nil
	case map[string]any:
		return errors.New("accounts: organizational units and organizations are not built yet: list accounts")
	}
	return errors.New("accounts: give a list of account ids in quotes")
}
