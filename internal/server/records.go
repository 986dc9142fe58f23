package server

import (
	"path"
	"slices"

	"github.com/certmill/certmill/issuer"
)

// findCA finds an adopted CA, the first that is like this.
func (s *Server) findCA(like func(issuer.CARecord) bool) (issuer.CARecord, error) {
	all, err := issuer.CAs(s.Ledger)
	if err != nil {
		return issuer.CARecord{}, err
	}
	i := slices.IndexFunc(all, like)
	if i < 0 {
		return issuer.CARecord{}, issuer.ErrNotFound
	}
	return all[i], nil
}

// matches says whether an order's glob takes a station, as the issuer reads it when a certificate is asked for.
func matches(glob, station string) bool {
	ok, err := path.Match(glob, station)
	return err == nil && ok
}
