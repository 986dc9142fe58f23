package main

import (
	"net"
	"net/url"

	"github.com/certmill/certmill/registrar"
)

// onlyLoopback reports whether everything that a fleet file names is on this machine: a simulator, which needs no credentials of anybody.
// An entry that names a profile wants that one's.
func onlyLoopback(f *registrar.Fleet) bool {
	for _, r := range f.Registrations {
		u, err := url.Parse(r.Access.Endpoint)
		if err != nil || r.Access.Endpoint == "" || r.Access.Profile != "" {
			return false
		}
		if ip := net.ParseIP(u.Hostname()); u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return false
		}
	}
	return len(f.Registrations) > 0
}
