package server

import (
	"path"

	"github.com/certmill/certmill/issuer"
)

// caRecord finds an adopted CA by its name.
func (s *Server) caRecord(name string) (issuer.CARecord, error) {
	all, err := issuer.CAs(s.Ledger)
	if err != nil {
		return issuer.CARecord{}, err
	}
	for _, r := range all {
		if r.Name == name {
			return r, nil
		}
	}
	return issuer.CARecord{}, issuer.ErrNotFound
}

// matches says whether an order's glob takes a station, as the issuer reads it when a certificate is asked for.
func matches(glob, station string) bool {
	ok, err := path.Match(glob, station)
	return err == nil && ok
}

// plant finds the plant CA.
func (s *Server) plant() (issuer.CARecord, error) {
	all, err := issuer.CAs(s.Ledger)
	if err != nil {
		return issuer.CARecord{}, err
	}
	for _, r := range all {
		if r.Role == "plant" {
			return r, nil
		}
	}
	return issuer.CARecord{}, issuer.ErrNotFound
}
