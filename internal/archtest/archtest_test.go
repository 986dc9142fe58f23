package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/certmill/certmill"

// mayImport says which packages of ours each package may import. Every package must have a row.
var mayImport = map[string][]string{
	"internal/archtest":   {},
	"internal/durable":    {}, // files that are whole after a crash
	"internal/strictyaml": {}, // files that people write
	"internal/testdisk":   {}, // a disk that tests record, break and cut off; never in the binary

	"hsm":         {"internal/durable"}, // knows no certificates: cmd hands it the check
	"hsm/hsmtest": {"hsm"},
	"ca/lint":     {},
	"ca":          {"ca/lint", "internal/strictyaml"},                // knows no tokens: it takes a Signer
	"ca/ceremony": {"ca", "internal/durable", "internal/strictyaml"}, // its record is the transcript, not the ledger

	"internal/ledger":                {"internal/durable", "internal/ledger/internal/fault"},
	"internal/ledger/internal/fault": {}, // where tests make a commit fail
	"internal/ledger/ledgertest":     {"internal/ledger", "internal/ledger/internal/fault"},

	"issuer/client":        {"internal/strictyaml", "internal/durable"}, // what a station builds: no ledger, no token
	"issuer/client/format": {"issuer/client"},
	"issuer":               {"ca", "internal/ledger"},
	"internal/server":      {"issuer/client", "issuer", "ca", "internal/ledger"},

	"registrar/jitp":   {},
	"registrar/jitr":   {},
	"registrar/awsapi": {"registrar/jitr"},                   // the deps of the Lambda
	"registrar/awsim":  {"registrar/jitp", "registrar/jitr"}, // never registrar: the simulator must not share its mistakes
	"registrar":        {"registrar/awsapi", "registrar/jitp", "internal/durable", "internal/strictyaml"},

	"cmd/certmill-lambda": {"registrar/jitr", "registrar/awsapi"},
	"cmd/certmill":        {"*"}, // only cmd knows everything
}

// where says in which package, or file, a third-party module may appear. What is not listed may appear nowhere.
var where = map[string][]string{
	"github.com/ThalesIgnite/crypto11": {"hsm"},
	"github.com/miekg/pkcs11":          {"hsm/pkcs11.go", "hsm/pkcs11_examine.go", "hsm/pkcs11_key.go", "hsm/pkcs11_sign.go"},

	"github.com/zmap/zlint/v3": {"ca/lint"},
	"github.com/zmap/zcrypto":  {"ca/lint"},

	"go.etcd.io/bbolt": {"internal/ledger", "registrar/awsim"},
	"golang.org/x/mod": {"internal/ledger"},

	"github.com/hanwen/go-fuse/v2": {"internal/testdisk"},

	"github.com/aws/aws-sdk-go-v2":        {"registrar/awsapi"},
	"github.com/aws/smithy-go":            {"registrar/awsapi"},
	"github.com/aws/aws-lambda-go":        {"cmd/certmill-lambda"},
	"github.com/mochi-mqtt/server/v2":     {"registrar/awsim"},
	"github.com/eclipse/paho.mqtt.golang": {"registrar"},
	"github.com/prometheus/client_golang": {"internal/server"},
	"github.com/goccy/go-yaml":            {"internal/strictyaml"},
	"github.com/spf13/cobra":              {"cmd/certmill"},
	"github.com/spf13/pflag":              {"cmd/certmill"},
	"github.com/vbauerster/mpb/v8":        {"cmd/certmill"},
	"golang.org/x/crypto":                 {"ca", "issuer/client/format"}, // cryptobyte
	"rsc.io/qr":                           {"issuer/client/format"},
	"software.sslmate.com/src/go-pkcs12":  {"issuer/client/format"},
	"golang.org/x/sys":                    {"hsm", "cmd/certmill", "internal/server"},
	"golang.org/x/term":                   {"cmd/certmill", "hsm"},
	"golang.org/x/time":                   {"internal/server", "registrar", "registrar/awsim", "hsm"},
}

// never are packages that must not be in the binary, however indirectly (design.md section 8).
var never = []string{
	"github.com/smallstep/certificates/kms/pkcs11", "go.step.sm/crypto/kms/pkcs11", "github.com/ThalesGroup/crypto11",
	"github.com/aws/aws-sdk-go/", "gopkg.in/yaml.v2", "gopkg.in/yaml.v3", "github.com/dgraph-io/badger", "github.com/stretchr/testify", "github.com/spf13/viper",
	"github.com/hanwen/go-fuse", "github.com/certmill/certmill/internal/testdisk",
}

// goPackage is what `go list -json` says of a package.
type goPackage struct {
	Dir, ImportPath   string
	GoFiles, CgoFiles []string
}

func TestImports(t *testing.T) {
	for _, cgo := range []string{"0", "1"} {
		t.Run("CGO_ENABLED="+cgo, func(t *testing.T) {
			for _, p := range list(t, cgo) {
				checkPackage(t, p)
			}
		})
	}
}

func checkPackage(t *testing.T, p goPackage) {
	name := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
	allowed, known := mayImport[name]
	if !known {
		t.Errorf("package %s has no row in mayImport", name)
		return
	}
	for _, file := range append(p.GoFiles, p.CgoFiles...) {
		for _, path := range imports(t, filepath.Join(p.Dir, file)) {
			ours, isOurs := strings.CutPrefix(path, module+"/")
			switch {
			case isOurs && !slices.Contains(allowed, ours) && !slices.Contains(allowed, "*"):
				t.Errorf("%s/%s imports %s: not in mayImport[%q]", name, file, ours, name)
			case !isOurs && strings.Contains(strings.Split(path, "/")[0], ".") && !thirdParty(path, name, file):
				t.Errorf("%s/%s imports %s: not in where", name, file, path)
			}
		}
	}
}

// thirdParty reports whether a file may import a package of another module.
func thirdParty(path, name, file string) bool {
	for mod, places := range where {
		if path == mod || strings.HasPrefix(path, mod+"/") {
			return slices.Contains(places, name) || slices.Contains(places, name+"/"+file)
		}
	}
	return false
}

// A rule that nothing needs any more is a rule that says something untrue.
func TestRowsAreNeeded(t *testing.T) {
	names := map[string]bool{}
	used := map[string]bool{}
	for _, cgo := range []string{"0", "1"} {
		for _, p := range list(t, cgo) {
			name := strings.TrimPrefix(p.ImportPath, module+"/")
			names[name] = true
			for _, file := range append(p.GoFiles, p.CgoFiles...) {
				for _, path := range imports(t, filepath.Join(p.Dir, file)) {
					used[name+" "+strings.TrimPrefix(path, module+"/")] = true
					for mod := range where {
						if path == mod || strings.HasPrefix(path, mod+"/") {
							used[mod+" "+name], used[mod+" "+name+"/"+file] = true, true
						}
					}
				}
			}
		}
	}
	for name, allowed := range mayImport {
		if !names[name] {
			t.Errorf("mayImport has a row for %s, which is not there", name)
		}
		for _, a := range allowed {
			if a != "*" && !used[name+" "+a] {
				t.Errorf("mayImport lets %s import %s, which it does not", name, a)
			}
		}
	}
	for mod, places := range where {
		for _, p := range places {
			if !used[mod+" "+p] {
				t.Errorf("where lets %s appear in %s, where it does not", mod, p)
			}
		}
	}
}

func TestNeverInTheBinary(t *testing.T) {
	for _, p := range strings.Fields(run(t, "1", "list", "-deps", "./cmd/...")) {
		for _, n := range never {
			if strings.HasPrefix(p, n) {
				t.Errorf("%s is compiled into a command", p)
			}
		}
	}
}

// The station's side and the AWS side need no C compiler; nor do they on other systems.
func TestBuildsWithoutCgo(t *testing.T) {
	if testing.Short() {
		t.Skip("cross-builds take a minute the first time")
	}
	for _, system := range []string{"linux", "darwin", "windows"} {
		cmd := exec.Command("go", "build", "-o", os.DevNull, "./issuer/client")
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+system)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", system, err, out)
		}
	}
}

const root = "../.."

func list(t *testing.T, cgo string) (packages []goPackage) {
	t.Helper()
	d := json.NewDecoder(bytes.NewBufferString(run(t, cgo, "list", "-json=Dir,ImportPath,GoFiles,CgoFiles", "./...")))
	for {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

func run(t *testing.T, cgo string, args ...string) string {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED="+cgo)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v", strings.Join(args, " "), err)
	}
	return string(out)
}

func imports(t *testing.T, file string) (paths []string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range f.Imports {
		path, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	return paths
}
