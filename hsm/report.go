package hsm

// TokenReport is what a signer found when it was ready.
type TokenReport struct {
	Module       string      `json:"module"` // description and version, as the module gives them
	Label        string      `json:"label"`
	Serial       string      `json:"serial"`
	Manufacturer string      `json:"manufacturer"`
	Model        string      `json:"model"`
	Firmware     string      `json:"firmware"`
	Sessions     int         `json:"sessions"` // most that may be open at a time; 0: no limit is known
	Processes    int         `json:"processes"`
	Lanes        int         `json:"lanes"` // signatures at a time in one process
	Measured     Measured    `json:"measured"`
	Keys         []KeyReport `json:"keys"`
}
