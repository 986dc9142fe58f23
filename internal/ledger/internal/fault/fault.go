// Package fault is where tests make the ledger's disk fail. Only internal/ledger and what lies below it can import it, so no other package can.
package fault

// Points are the places that a test can put itself in. The zero value changes nothing.
type Points struct {
	// Commit is given bbolt's commit and its rollback, and returns what the ledger shall be told. Nil: commit.
	Commit func(commit, rollback func() error) error
}
