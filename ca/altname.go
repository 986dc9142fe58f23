package ca

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// maxNames bounds a subject alternative name.
const maxNames = 100

// altNames are the names of a service or a device (RFC 5280 4.2.1.6).
type altNames struct {
	dns []string
	ips [][]byte // 4 or 16 octets

	// Of devices alone.
	emails, uris []string
	modules      []hardwareModule
}

func (n altNames) count() int {
	return len(n.dns) + len(n.ips) + len(n.emails) + len(n.uris) + len(n.modules)
}

// add takes one more DNS name or IP literal; a name that is there already is fine.
func (n *altNames) add(name string) error {
	if ip, err := netip.ParseAddr(name); err == nil {
		if ip.Zone() != "" {
			return fmt.Errorf("name %q: an address with a zone has no meaning elsewhere", name)
		}
		octets := ip.Unmap().AsSlice()
		if !slices.ContainsFunc(n.ips, func(have []byte) bool { return slices.Equal(have, octets) }) {
			n.ips = append(n.ips, octets)
		}
		return nil
	}
	if !isHostName(name) {
		return fmt.Errorf("name %q is neither a DNS name (RFC 1034 3.5) nor an IP address", clip(name))
	}
	if name = strings.ToLower(name); !slices.Contains(n.dns, name) {
		n.dns = append(n.dns, name)
	}
	return nil
}

// join returns the names of both, checked.
func (n altNames) join(more []string) (altNames, error) {
	all := altNames{dns: slices.Clone(n.dns), ips: slices.Clone(n.ips)}
	for _, name := range more {
		if err := all.add(name); err != nil {
			return altNames{}, err
		}
	}
	if len(all.dns)+len(all.ips) > maxNames {
		return altNames{}, fmt.Errorf("more than %d names", maxNames)
	}
	return all, nil
}

func isHostName(s string) bool {
	if len(s) == 0 || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if len(label) == 0 || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		if strings.Trim(strings.ToLower(label), "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return false
		}
	}
	return true
}

func (p *Profile) checkNames() (err error) {
	if len(p.config.Names) > 0 && p.config.Kind != KindService {
		return errors.New("names are for kind: service")
	}
	if p.names, err = p.names.join(p.config.Names); err != nil {
		return fmt.Errorf("names: %w", err)
	}
	return nil
}
