package ca

import (
	"crypto/sha256"
	"fmt"
	"sync"

	"github.com/certmill/certmill/ca/lint"
)

// lintedStructures remembers which structures passed the linter: the first certificate of each is its sample, and is linted
// before its Prepared exists. Safe for concurrent use.
type lintedStructures struct {
	linter func() (*lint.Linter, error)

	mu     sync.RWMutex
	passed map[[32]byte]struct{} // guarded by mu
}

// maxStructures bounds the memory of what passed. A CA meets a handful; names of services and odd characters make more, and
// past the bound they are linted each time.
const maxStructures = 1024

func newLintedStructures() *lintedStructures {
	return &lintedStructures{linter: sync.OnceValues(lint.New), passed: make(map[[32]byte]struct{})}
}

// check lints a TBS whose structure has not passed yet: ErrRefused with the lint's name.
func (s *lintedStructures) check(kind string, tbs []byte, t *parsedTBS) error {
	id := sha256.Sum256(append([]byte(kind+"\x00"), t.structure()...))
	s.mu.RLock()
	_, known := s.passed[id]
	s.mu.RUnlock()
	if known {
		return nil
	}
	linter, err := s.linter()
	if err != nil {
		return err
	}
	if err := lintTBS(linter, kind, tbs, t.algorithm); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.passed) < maxStructures {
		s.passed[id] = struct{}{}
	}
	return nil
}

// lintTBS lints a TBS under a signature that nobody made: no real key has seen what was not linted.
func lintTBS(l *lint.Linter, kind string, tbs []byte, algorithm oid) error {
	certificate, err := assemble(tbs, algorithm, placeholderSignature(algorithm))
	if err != nil {
		return err
	}
	findings, err := l.Lint(certificate, kind == KindProof)
	if err != nil {
		return err
	}
	if errs := lint.Errors(findings); len(errs) > 0 {
		return fmt.Errorf("%w: linter: %s", ErrRefused, errs[0])
	}
	return nil
}

// placeholderSignature has the form of a signature and verifies for no key.
func placeholderSignature(algorithm oid) []byte {
	if algorithm == oidSHA256WithRSA {
		return make([]byte, 256)
	}
	return []byte{0x30, 6, 2, 1, 1, 2, 1, 1} // ECDSA-Sig-Value (RFC 3279 2.2.3) of 1 and 1
}
