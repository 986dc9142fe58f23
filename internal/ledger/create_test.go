package ledger

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/certmill/certmill/internal/ledger/internal/fault"
)

func emptyConfig(t testing.TB) Config {
	return Config{Path: filepath.Join(t.TempDir(), "ledger.db"), Marker: filepath.Join(t.TempDir(), "failed")}
}

func writeFile(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Each point at which Create can die, as the files that it leaves there. Create again finishes.
func TestCreateDies(t *testing.T) {
	tests := []struct {
		name  string
		leave func(t *testing.T, cfg Config)
		keeps bool // the key that is there
	}{
		{"before anything", func(*testing.T, Config) {}, false},
		{"while the key is written", func(t *testing.T, cfg Config) {
			writeFile(t, filepath.Join(filepath.Dir(cfg.Path), ".ledger.db.key.123"), []byte(`{"version":`))
		}, false},
		{"after the key", func(t *testing.T, cfg Config) { mustMakeKeys(t, cfg) }, true},
		{"after the temporary store was made", func(t *testing.T, cfg Config) {
			mustMakeKeys(t, cfg)
			writeFile(t, cfg.Path+".new", nil)
		}, true},
		{"while bbolt initialises", func(t *testing.T, cfg Config) {
			mustMakeKeys(t, cfg)
			writeFile(t, cfg.Path+".new", make([]byte, 4096))
		}, true},
		{"before the store is renamed", func(t *testing.T, cfg Config) {
			if err := Create(cfg, "ledger.test"); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(cfg.Path, cfg.Path+".new"); err != nil {
				t.Fatal(err)
			}
		}, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			cfg := emptyConfig(t)
			test.leave(t, cfg)
			before, _ := os.ReadFile(cfg.keyPath())
			if _, err := Open(cfg); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("Open of half a ledger: %v, want fs.ErrNotExist", err)
			}
			if err := Create(cfg, "ledger.test"); err != nil {
				t.Fatal(err)
			}
			after, _ := os.ReadFile(cfg.keyPath())
			if test.keeps && string(before) != string(after) {
				t.Error("the key that was there was replaced")
			}
			l := openTest(t, cfg, fault.Points{})
			if err := l.Check(); err != nil || l.Name() != "ledger.test" || l.Epoch() != 0 {
				t.Errorf("name %q, epoch %d: %v", l.Name(), l.Epoch(), err)
			}
			if err := Create(cfg, "ledger.test"); !errors.Is(err, fs.ErrExist) {
				t.Errorf("Create once more: %v, want fs.ErrExist", err)
			}
		})
	}
}

func mustMakeKeys(t testing.TB, cfg Config) {
	t.Helper()
	if _, err := makeKeys(cfg.keyPath(), "ledger.test"); err != nil {
		t.Fatal(err)
	}
}

func TestFilesAreForTheOwnerAlone(t *testing.T) {
	cfg := create(t)
	for _, path := range []string{cfg.Path, cfg.keyPath()} {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	if files, _ := os.ReadDir(filepath.Dir(cfg.Path)); len(files) != 2 {
		t.Errorf("%d files left, want 2", len(files))
	}
}

// Files that do not belong together, or are none: each refused by Create or Open with a text that says which.
func TestWrongFiles(t *testing.T) {
	create2 := func(cfg Config) error { return Create(cfg, "ledger.test") }
	open2 := func(cfg Config) error {
		l, err := Open(cfg)
		if err == nil {
			l.Close()
		}
		return err
	}
	replace := func(old, new string) func(t *testing.T, cfg Config) {
		return func(t *testing.T, cfg Config) {
			data, err := os.ReadFile(cfg.keyPath())
			if err != nil || !strings.Contains(string(data), old) {
				t.Fatal(err)
			}
			writeFile(t, cfg.keyPath(), []byte(strings.Replace(string(data), old, new, 1)))
		}
	}
	remove := func(t *testing.T, path string) {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name string
		do   func(t *testing.T, cfg Config)
		call func(cfg Config) error
		want string
	}{
		{"store without key, create", func(t *testing.T, cfg Config) { remove(t, cfg.keyPath()) }, create2, "restore the key file"},
		{"store without key, open", func(t *testing.T, cfg Config) { remove(t, cfg.keyPath()) }, open2, "restore the key file"},
		{"key of another name without store", func(t *testing.T, cfg Config) {
			remove(t, cfg.Path)
			remove(t, cfg.keyPath())
			if _, err := makeKeys(cfg.keyPath(), "other"); err != nil {
				t.Fatal(err)
			}
		}, create2, `is the key of "other", not of "ledger.test"`},
		{"key of another ledger of that name", func(t *testing.T, cfg Config) { mustMakeKeys(t, cfg) }, open2, "do not belong together"},
		{"key of another name", func(t *testing.T, cfg Config) {
			if _, err := makeKeys(cfg.keyPath(), "other"); err != nil {
				t.Fatal(err)
			}
		}, open2, `the store is of "ledger.test", the key file of "other"`},
		{"key that others may read", func(t *testing.T, cfg Config) { os.Chmod(cfg.keyPath(), 0o640) }, open2, "may be read by others (mode 0640)"},
		{"key cut off", func(t *testing.T, cfg Config) { os.Truncate(cfg.keyPath(), 40) }, open2, "is not a ledger key file"},
		{"key of a later version", replace(`"version": 1`, `"version": 2`), open2, "version 2"},
		{"key with an unknown field", replace(`"version": 1`, `"version": 1, "vresion": 1`), open2, "is not a ledger key file"},
		{"key with another's verifier", replace(`"verifier_key": "ledger.test+`, `"verifier_key": "ledger.test+0`), open2, "verifier_key"},
		{"key without its checkpoint key", replace(`"checkpoint_key"`, `"name"`), open2, "name is malformed"},
		{"key with a short secret", replace(`"serial_secret": "`, `"serial_secret": "", "x": "`), open2, "is not a ledger key file"},
		{"key is a folder", func(t *testing.T, cfg Config) { remove(t, cfg.keyPath()); os.Mkdir(cfg.keyPath(), 0o700) }, open2, "is not a ledger key file"},
		{"store is empty", func(t *testing.T, cfg Config) { os.Truncate(cfg.Path, 0) }, open2, "is empty"},
		{"store is text", func(t *testing.T, cfg Config) { writeFile(t, cfg.Path, []byte(strings.Repeat("text\n", 4000))) }, open2, "open store"},
		{"store cut off", func(t *testing.T, cfg Config) { os.Truncate(cfg.Path, 3*4096) }, open2, "damaged"},
		{"store of another program", func(t *testing.T, cfg Config) {
			tamper(t, cfg, func(x *tampered) { x.tx.DeleteBucket([]byte("entries")) })
		}, open2, "bucket entries is missing"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			cfg := create(t)
			test.do(t, cfg)
			err := test.call(cfg)
			if err == nil || !strings.Contains(err.Error(), test.want) || errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) {
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
			if key, _ := os.ReadFile(cfg.keyPath()); err != nil && strings.Contains(string(key), "PRIVATE+KEY") {
				secret := strings.Split(string(key), `"`)
				for _, part := range secret {
					if strings.HasPrefix(part, "PRIVATE+KEY") && strings.Contains(err.Error(), part) {
						t.Error("the error holds the key")
					}
				}
			}
		})
	}
}

func TestNames(t *testing.T) {
	for _, name := range []string{"", "a b", "a+b", "a\nb", "ä", strings.Repeat("n", 129)} {
		if err := Create(emptyConfig(t), name); err == nil {
			t.Errorf("name %q was taken", name)
		}
	}
	for _, name := range []string{"a", "factory.example/line-a", strings.Repeat("n", 128)} {
		cfg := emptyConfig(t)
		if err := Create(cfg, name); err != nil {
			t.Errorf("name %q: %v", name, err)
			continue
		}
		if _, err := VerifyCheckpoint(openTest(t, cfg, fault.Points{}).Checkpoint().Note, "x"); err == nil {
			t.Error("a verifier key that is none was taken")
		}
	}
}
