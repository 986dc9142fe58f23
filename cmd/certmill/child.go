package main

import (
	"fmt"
	"os"
	"time"

	"github.com/certmill/certmill/ca"
	"github.com/certmill/certmill/hsm"
)

// Hidden subcommands: this binary started again by itself. They speak on file descriptor 3, never on a terminal.
const (
	childKeeper = "hsm-keeper"
	childSigner = "hsm-signer"
	childPages  = "store-pages" // checks a store's pages, and may end over damaged ones; it speaks on stderr
)

// runChild runs a keeper or a signer where the arguments ask for one. It comes before any flag is parsed, so that
// a child loads nothing it does not need.
func runChild(args []string) (code int, child bool) {
	if len(args) < 2 {
		return 0, false
	}
	var err error
	switch args[1] {
	case childKeeper:
		err = hsm.RunKeeper()
	case childSigner:
		err = hsm.RunSigner(policyCheck)
	case childPages:
		return runPages(args[len(args)-1]), true
	default:
		return 0, false
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "certmill:", err)
		return exitFailed, true
	}
	return exitDone, true
}

// policyCheck joins the CA's policy to the signer process: hsm knows no certificates, ca knows no tokens.
func policyCheck(policy []byte) (func(kind string, tbs []byte) error, error) {
	p, err := ca.ParsePolicy(policy)
	if err != nil {
		return nil, err
	}
	return func(kind string, tbs []byte) error { return p.Check(kind, tbs, time.Now()) }, nil
}
