package ceremony

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/certmill/certmill/ca"
	"github.com/certmill/certmill/internal/strictyaml"
)

// File is a ceremony file: everything that is decided before the ceremony begins.
type File struct {
	Version      int    `yaml:"version"`      // 1
	Role         string `yaml:"role"`         // root, issuing or plant
	Name         string `yaml:"name"`         // of the CA in the ledger, and in URLs
	Token        string `yaml:"token"`        // name of the token in certmill.yaml
	Label        string `yaml:"label"`        // of the key to be made; must be free in the token
	Backup       string `yaml:"backup"`       // how the key is backed up, fixed for ever: none (default), vendor-clone or wrapped
	CommonName   string `yaml:"common_name"`  // the generation is added: "Demo Issuing" becomes "Demo Issuing G1"
	Organization string `yaml:"organization"` // may be left out
	Country      string `yaml:"country"`      // two capital letters; may be left out
	Generation   int    `yaml:"generation"`   // from 1
	Years        int    `yaml:"years"`        // life in calendar years from the begin of the ceremony; or:
	NotAfter     string `yaml:"not_after"`    // RFC 3339
	IssueUntil   string `yaml:"issue_until"`  // RFC 3339, or 3y from the begin; left out: as long as it lives
	Issuer       string `yaml:"issuer"`       // role issuing: name of the CA that signs it, whose key is in the same token
}

// Parse reads a ceremony file (YAML, strict) and checks what can be checked without token and clock. Subject and times are
// checked by Run, before it makes anything.
func Parse(yaml []byte) (*File, error) {
	var f File
	if err := strictyaml.Decode(yaml, &f); err != nil {
		return nil, err
	}
	return &f, f.check()
}

var (
	nameForm  = regexp.MustCompile(`^[a-z0-9_-][a-z0-9._-]{0,63}$`)
	labelForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$`) // some tokens hold 32 characters
	yearsForm = regexp.MustCompile(`^([1-9][0-9]{0,2})y$`)
)

func (f *File) check() error {
	switch {
	case f.Version != 1:
		return fmt.Errorf("version is %d, this program reads version 1", f.Version)
	case f.Role != ca.RoleRoot && f.Role != ca.RoleIssuing && f.Role != ca.RolePlant:
		return fmt.Errorf("role %q: want root, issuing or plant", f.Role)
	case !nameForm.MatchString(f.Name):
		return fmt.Errorf("name %q: want 1 to 64 of a-z, 0-9, -, . and _", f.Name)
	case f.Token == "":
		return errors.New("token is missing: the name of a token in certmill.yaml")
	case !labelForm.MatchString(f.Label):
		return fmt.Errorf("label %q: want 1 to 32 of A-Z, a-z, 0-9, -, . and _", f.Label)
	case f.Backup != "" && f.Backup != "none" && f.Backup != "vendor-clone" && f.Backup != "wrapped":
		return fmt.Errorf("backup %q: want none, vendor-clone or wrapped", f.Backup)
	case (f.Issuer != "") != (f.Role == ca.RoleIssuing):
		return fmt.Errorf("issuer is for role issuing, and needed there")
	case (f.Years != 0) == (f.NotAfter != ""):
		return errors.New("want one of years and not_after")
	case f.Years < 0 || f.Years > 100:
		return fmt.Errorf("years: %d is not within 1 and 100", f.Years)
	}
	_, _, err := f.times(time.Unix(0, 0))
	return err
}

// times are the CA's end and the last moment at which it issues, counted from begin.
func (f *File) times(begin time.Time) (notAfter, issueUntil time.Time, err error) {
	begin = begin.UTC().Truncate(time.Second)
	notAfter = begin.AddDate(f.Years, 0, 0)
	if f.NotAfter != "" {
		if notAfter, err = time.Parse(time.RFC3339, f.NotAfter); err != nil {
			return notAfter, issueUntil, fmt.Errorf("not_after %q: want RFC 3339, such as 2056-01-01T00:00:00Z", f.NotAfter)
		}
	}
	if f.IssueUntil == "" {
		return notAfter, notAfter, nil
	}
	if m := yearsForm.FindStringSubmatch(f.IssueUntil); m != nil {
		years, err := strconv.Atoi(m[1])
		return notAfter, begin.AddDate(years, 0, 0), err
	}
	if issueUntil, err = time.Parse(time.RFC3339, f.IssueUntil); err != nil {
		return notAfter, issueUntil, fmt.Errorf("issue_until %q: want RFC 3339, or years such as 3y", f.IssueUntil)
	}
	return notAfter, issueUntil, nil
}

// hierarchy is the certificate that the file asks for.
func (f *File) hierarchy(begin time.Time) (ca.HierarchyConfig, error) {
	notAfter, issueUntil, err := f.times(begin)
	return ca.HierarchyConfig{
		Name: f.Name, Role: f.Role, CommonName: f.CommonName, Organization: f.Organization, Country: f.Country,
		Generation: f.Generation, NotAfter: notAfter, IssueUntil: issueUntil,
	}, err
}

// algorithm of the key that a role has.
func (f *File) algorithm() string {
	if f.Role == ca.RoleRoot {
		return "p384"
	}
	return "p256"
}

// Template returns a commented ceremony file for a role (root, issuing, plant), to be edited and reviewed; nil for any other role.
func Template(role, name string) []byte {
	about := map[string][4]string{
		ca.RoleRoot:    {"Root: signs issuing CAs. Its key is P-384.", "Demo Root", "35", ""},
		ca.RoleIssuing: {"Issuing CA: signs devices, and is what AWS IoT registers. Its key is P-256, its path length 0.", "Demo Issuing", "30", issuingLines},
		ca.RolePlant:   {"Plant CA: signs stations and the service's own TLS, never devices. Self-signed, P-256, never registered with AWS.", "Demo Plant", "30", ""},
	}
	a, known := about[role]
	if !known {
		return nil
	}
	return []byte(strings.NewReplacer("{about}", a[0], "{role}", role, "{name}", name, "{common_name}", a[1], "{years}", a[2], "{more}", a[3]).Replace(template))
}

const template = `# {about}
# Review it, then: certmill ceremony run FILE. What is run is recorded word for word in the transcript beside it.
version: 1
role: {role}
name: {name}                # of the CA: in the ledger, in URLs, in other files
token: main                # name of the token in certmill.yaml
label: {name}-g1            # of the key to be made; must be free in the token
backup: none               # of the key, fixed for ever: none, vendor-clone (from token to token), wrapped (under a key of the token)

common_name: {common_name}     # the generation is added: "{common_name} G1"
organization: Demo
# country: DE              # two capital letters
generation: 1              # the next CA of this name is 2: AWS takes at most 10 CAs of one subject

years: {years}                  # life from the ceremony on; or not_after: 2056-01-01T00:00:00Z
{more}`

const issuingLines = `issue_until: 3y            # signs no devices after that, lives on so that theirs stay valid; a time such as 2029-01-01T00:00:00Z, or years
issuer: root               # name of the CA that signs it; its key is in the same token
`
