package registrar

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/certmill/certmill/internal/strictyaml"
	"github.com/certmill/certmill/registrar/awsapi"
	"github.com/certmill/certmill/registrar/jitp"
)

// Modes in which a CA can be registered.
const (
	ModeDefault = "DEFAULT"  // one account per region owns the CA and has proved that it holds the key (CA-13)
	ModeSNIOnly = "SNI_ONLY" // any number of accounts; a device says by SNI which one it means (CA-14)
)

// Fleet is the desired state, read and checked. It does not change and may be used concurrently.
type Fleet struct {
	Path          string            // of the file
	Hash          string            // SHA-256 over the file and every file it names: hex
	Registrations []Registration    // by account, region and CA
	Tags          map[string]string // on what certmill makes
	Warnings      []string          // what is odd and may be meant

	jitp map[string]provisioner
	jitr map[string]jitrFile
}

// Registration is one CA at one place.
type Registration struct {
	CA string // its name at certmill
	Place
	Mode             string // ModeDefault or ModeSNIOnly
	Active           bool
	AutoRegistration bool
	JITP, JITR       string // name of the entry under jitp: or jitr:; both empty: the CA alone
	Access           awsapi.Access
}

// provisioner is an entry under jitp: with its template file.
type provisioner struct {
	jitpFile
	text string
}

// maxTemplateFile bounds what is read before the template's own limit is looked at, in bytes.
const maxTemplateFile = 1 << 20

// LoadFleet reads fleet.yaml and the files that it names; relative paths are relative to its folder. The error says what to change.
func LoadFleet(path string) (*Fleet, error) {
	l := &loader{dir: filepath.Dir(path), hash: sha256.New()}
	data, err := l.read(filepath.Base(path))
	if err != nil {
		return nil, err
	}
	var file fleetFile
	if err := strictyaml.Decode(data, &file); err != nil {
		return nil, err
	}
	if file.Version != 1 {
		return nil, fmt.Errorf("version: %d is not known; this build reads version 1", file.Version)
	}
	f := &Fleet{Path: path, Tags: file.Tags, jitr: file.JITR, jitp: make(map[string]provisioner)}
	if err := f.readProvisioners(l, file); err != nil {
		return nil, err
	}
	for i, e := range file.Registrations {
		e.Access = inherit(e.Access, file.Access)
		if err := f.add(l, e); err != nil {
			return nil, fmt.Errorf("registrations[%d]: %w", i, err)
		}
	}
	f.Hash = hex.EncodeToString(l.hash.Sum(nil))
	return f, f.finish()
}

// CAs lists the names of the CAs that the fleet registers.
func (f *Fleet) CAs() []string {
	names := make(map[string]bool)
	for _, r := range f.Registrations {
		names[r.CA] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// inherit: an entry's access replaces the file's; the endpoint comes along where the entry names none.
func inherit(own, common accessFile) accessFile {
	if own == (accessFile{}) {
		return common
	}
	own.Endpoint = cmp.Or(own.Endpoint, common.Endpoint)
	return own
}

func (f *Fleet) readProvisioners(l *loader, file fleetFile) error {
	for _, name := range slices.Sorted(maps.Keys(file.JITP)) {
		j := file.JITP[name]
		if !templateNamePattern.MatchString(templateName(name)) {
			return fmt.Errorf("jitp: %q: at most 27 of A-Z a-z 0-9 _ - make a template's name", name)
		}
		if j.Template == "" || j.Role == "" {
			return fmt.Errorf("jitp.%s: template and role are both needed", name)
		}
		text, err := l.read(j.Template)
		if err != nil {
			return fmt.Errorf("jitp.%s.template: %w", name, err)
		}
		f.jitp[name] = provisioner{j, string(text)}
	}
	for _, name := range slices.Sorted(maps.Keys(file.JITR)) {
		j := file.JITR[name]
		switch {
		case !ruleNamePattern.MatchString(j.Rule):
			return fmt.Errorf("jitr.%s.rule: %q: a rule's name has 1 to 128 of A-Z a-z 0-9 _", name, j.Rule)
		case !policyNamePattern.MatchString(j.Policy):
			return fmt.Errorf("jitr.%s.policy: %q is not a policy's name", name, j.Policy)
		case j.Function == "":
			return fmt.Errorf("jitr.%s.function: missing: the ARN of the Lambda function that certmill-lambda is", name)
		}
	}
	return nil
}

// Names that AWS takes (rules section 1.4).
var (
	templateNamePattern = regexp.MustCompile(`^[0-9A-Za-z_-]{1,36}$`)
	ruleNamePattern     = regexp.MustCompile(`^[a-zA-Z0-9_]{1,128}$`)
	policyNamePattern   = regexp.MustCompile(`^[\w+=,.@-]{1,128}$`)
	roleARNPattern      = regexp.MustCompile(`^arn:(aws|aws-cn|aws-us-gov):iam::([0-9]{12}):role/([\w+=,.@/-]{1,512})$`)
	functionARNPattern  = regexp.MustCompile(`^arn:(aws|aws-cn|aws-us-gov):lambda:([a-z0-9-]+):([0-9]{12}):function:[A-Za-z0-9_-]{1,64}(:[A-Za-z0-9$_-]+)?$`)
	externalIDPattern   = regexp.MustCompile(`^[\w+=,.@:/-]+$`)
)

// add expands one entry to a registration for each account and region.
func (f *Fleet) add(l *loader, e registrationFile) error {
	switch {
	case e.CA == "":
		return fmt.Errorf("ca: missing: the name of a CA")
	case len(e.Accounts) == 0 || len(e.Regions) == 0:
		return fmt.Errorf("accounts and regions need an element each")
	}
	if err := f.checkProvisioning(e.Provisioning); err != nil {
		return err
	}
	for _, account := range e.Accounts {
		for _, region := range e.Regions {
			r := Registration{CA: e.CA, Place: Place{account, region}, JITP: e.Provisioning.JITP, JITR: e.Provisioning.JITR}
			if err := f.complete(l, &r, e); err != nil {
				return err
			}
			f.Registrations = append(f.Registrations, r)
		}
	}
	return nil
}

func (f *Fleet) checkProvisioning(p provisioningFile) error {
	_, jitpThere := f.jitp[p.JITP]
	_, jitrThere := f.jitr[p.JITR]
	switch {
	case p.JITP != "" && p.JITR != "":
		return fmt.Errorf("provisioning: give jitp or jitr, not both (CA-52)")
	case p.JITP != "" && !jitpThere:
		return fmt.Errorf("provisioning: no %q stands under jitp", p.JITP)
	case p.JITR != "" && !jitrThere:
		return fmt.Errorf("provisioning: no %q stands under jitr", p.JITR)
	}
	return nil
}

// complete checks one registration and fills what depends on its place.
func (f *Fleet) complete(l *loader, r *Registration, e registrationFile) error {
	if !accountPattern.MatchString(r.Account) {
		return fmt.Errorf("accounts: %q does not have 12 digits", r.Account)
	}
	if !regionPattern.MatchString(r.Region) {
		return fmt.Errorf("regions: %q is not a region, such as eu-central-1", r.Region)
	}
	switch e.Mode {
	case "default":
		r.Mode = ModeDefault
	case "sni-only":
		r.Mode = ModeSNIOnly
	default:
		return fmt.Errorf("mode: %q is neither default nor sni-only", e.Mode)
	}
	switch e.Status {
	case "", "active":
		r.Active = true
	case "inactive":
	default:
		return fmt.Errorf("status: %q is neither active nor inactive", e.Status)
	}
	r.AutoRegistration = e.AutoRegistration == nil || *e.AutoRegistration
	var err error
	if r.Access, err = l.access(e.Access, r.Place); err != nil {
		return fmt.Errorf("access: %w", err)
	}
	return f.checkPlace(r)
}

// checkPlace looks at what the placeholders became.
func (f *Fleet) checkPlace(r *Registration) error {
	if r.JITP != "" {
		p := f.jitp[r.JITP]
		if _, err := jitp.Parse([]byte(r.fill(p.text))); err != nil {
			return fmt.Errorf("jitp.%s.template: %s: %w", r.JITP, p.Template, err)
		}
		if m := roleARNPattern.FindStringSubmatch(r.fill(p.Role)); m == nil || m[1] != partition(r.Region) || m[2] != r.Account {
			return fmt.Errorf("jitp.%s.role: %q is not a role of account %s", r.JITP, r.fill(p.Role), r.Account)
		}
	}
	if r.JITR != "" {
		fn := r.fill(f.jitr[r.JITR].Function)
		if m := functionARNPattern.FindStringSubmatch(fn); m == nil || m[1] != partition(r.Region) || m[2] != r.Region || m[3] != r.Account {
			return fmt.Errorf("jitr.%s.function: %q is not a function of account %s in %s (R-02)", r.JITR, fn, r.Account, r.Region)
		}
	}
	return nil
}

// finish sorts, and looks at what only shows over all registrations.
func (f *Fleet) finish() error {
	slices.SortStableFunc(f.Registrations, func(a, b Registration) int {
		return cmp.Or(comparePlaces(a.Place, b.Place), strings.Compare(a.CA, b.CA))
	})
	for i, r := range f.Registrations {
		if !hasIoT(r.Region) {
			f.warn("region %s: AWS IoT Core was not there when this certmill was made", r.Region)
		}
		if i == 0 || f.Registrations[i-1].Place != r.Place {
			continue
		}
		last := f.Registrations[i-1]
		switch {
		case last.CA == r.CA:
			return fmt.Errorf("registrations: CA %s stands twice in %s", r.CA, r.Place)
		case last.Access != r.Access:
			return fmt.Errorf("registrations: %s has two kinds of access", r.Place)
		}
	}
	return nil
}

func (f *Fleet) warn(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(f.Warnings, text) {
		f.Warnings = append(f.Warnings, text)
	}
}

// loader reads the files of a fleet and remembers all that it read in one hash.
type loader struct {
	dir  string
	hash hash.Hash
}

func (l *loader) read(name string) ([]byte, error) {
	path := name
	if !filepath.IsAbs(path) {
		path = filepath.Join(l.dir, name)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if len(data) > maxTemplateFile {
		return nil, fmt.Errorf("%s has more than %d bytes", path, maxTemplateFile)
	}
	fmt.Fprintf(l.hash, "%s %d\n%s\n", name, len(data), data)
	return data, nil
}

func (l *loader) access(a accessFile, p Place) (awsapi.Access, error) {
	out := awsapi.Access{Role: p.fill(a.Role), ExternalID: p.fill(a.ExternalID.Text), Profile: p.fill(a.Profile), Endpoint: p.fill(a.Endpoint)}
	if a.ExternalID.File != "" {
		data, err := l.read(p.fill(a.ExternalID.File))
		if err != nil {
			return out, fmt.Errorf("external_id: %w", err)
		}
		out.ExternalID = strings.TrimSpace(string(data))
	}
	switch {
	case out.ExternalID != "" && (len(out.ExternalID) < 2 || len(out.ExternalID) > 1224 || !externalIDPattern.MatchString(out.ExternalID)):
		return out, fmt.Errorf("external_id: is not 2 to 1224 of A-Z a-z 0-9 _ + = , . @ : / - (S-01)")
	case out.Role != "" && roleARNPattern.FindStringSubmatch(out.Role) == nil:
		return out, fmt.Errorf("role: %q is not the ARN of a role", out.Role)
	case out.Endpoint != "" && !strings.HasPrefix(out.Endpoint, "http://") && !strings.HasPrefix(out.Endpoint, "https://"):
		return out, fmt.Errorf("endpoint: %q is not a URL", out.Endpoint)
	}
	return out, nil
}
