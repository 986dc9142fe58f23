package server

import (
	"time"

	"github.com/certmill/certmill/issuer"
)

// Status is how the service is.
type Status struct {
	Node        string                 `json:"node"`
	Version     string                 `json:"version"`
	Ready       string                 `json:"ready"` // "", or why nothing can be answered
	Ledger      LedgerStatus           `json:"ledger"`
	Tokens      map[string]TokenStatus `json:"tokens"`
	CAs         []CAStatus             `json:"cas"`
	OpenIntents int                    `json:"open_intents"`
	Clock       string                 `json:"clock"` // "", or why nothing is issued by it
	Frozen      []issuer.Target        `json:"frozen"`
	Officers    string                 `json:"officers"`
	Listeners   map[string]string      `json:"listeners"`
	TLSMin      string                 `json:"tls_min"`
}

// LedgerStatus says how far the record goes.
type LedgerStatus struct {
	Name       string `json:"name"`
	Size       uint64 `json:"size"` // entries
	Checkpoint string `json:"checkpoint"`
}

// TokenStatus says how a token is.
type TokenStatus struct {
	Ready      string   `json:"ready"` // "", or why it cannot sign
	Signers    int      `json:"signers"`
	Respawns   uint64   `json:"respawns"`
	Signatures uint64   `json:"signatures"`
	Wrong      uint64   `json:"wrong"`
	Refused    uint64   `json:"refused"`
	Notes      []string `json:"notes,omitempty"` // what was found of its keys and let pass
}

// CAStatus says what a CA may still do.
type CAStatus struct {
	Name       string    `json:"name"`
	Role       string    `json:"role"`
	State      string    `json:"state"`
	Token      string    `json:"token"`
	NotAfter   time.Time `json:"not_after"`
	IssueUntil time.Time `json:"issue_until"`
}

// status gathers it.
func (c *call) status() (Status, error) {
	s := c.s
	cas, err := issuer.CAs(s.Ledger)
	if err != nil {
		return Status{}, err
	}
	frozen, _ := list(s.Issuer.Frozen(), nil)
	cp := s.Ledger.Checkpoint()
	out := Status{
		Node:        s.Node,
		Version:     s.Version,
		Ready:       text(s.Ready()),
		Ledger:      LedgerStatus{s.Ledger.Name(), cp.Size, string(cp.Note)},
		Tokens:      make(map[string]TokenStatus, len(s.Tokens)),
		CAs:         make([]CAStatus, 0, len(cas)),
		OpenIntents: s.Issuer.OpenIntents(),
		Clock:       text(s.Issuer.ClockTrusted()),
		Frozen:      frozen,
		Officers:    s.Officers,
		Listeners:   s.Listeners,
		TLSMin:      s.TLSMin,
	}
	for name, t := range s.Tokens {
		n := t.Stats()
		st := TokenStatus{text(t.Ready()), n.Signers, n.Respawns, n.Signatures, n.Wrong, n.Refused, nil}
		if t.Notes != nil {
			st.Notes = t.Notes()
		}
		out.Tokens[name] = st
	}
	for _, r := range cas {
		out.CAs = append(out.CAs, CAStatus{r.Name, r.Role, r.State, r.Token, r.NotAfter, r.IssueUntil})
	}
	return out, nil
}

// text is an error's, "" for none.
func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
