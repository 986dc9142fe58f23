package hsm

// PINChange says what ChangePIN did.
type PINChange struct {
	Finished bool   `json:"finished"` // an earlier change that was cut off was finished; the new PIN of this call was not used
	File     string `json:"file"`     // that holds the new PIN now; "": the PIN comes from elsewhere
}
