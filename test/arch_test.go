// Package test holds what tests the whole program: its structure, and calls from end to end.
package test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// allowed says which of our packages each one may import, beyond those that are free to all from sessions up. A
// package that is not listed here fails the test: its place in the house must be decided first.
func allowed() map[string][]string {
	return map[string][]string{
		"errs":            {},
		"dsp":             {},
		"media":           {"errs"},
		"sounds":          {"errs"},
		"web":             {},
		"web/build":       {},
		"transcode":       {"media", "dsp"},
		"webhooks":        {"errs"},
		"sessions":        {"media", "webhooks"},
		"dialogs":         {"sessions", "transcode", "trunks"},
		"trunks":          {"errs"},
		"sip":             {"dialogs", "trunks"},
		"sfu":             {"sessions"},
		"api":             {"dialogs", "sessions", "trunks", "web"},
		"store":           {"sessions", "dialogs", "trunks", "webhooks"},
		"store/storetest": {},
		"gateway":         {"*"},
		"lab":             {"media", "transcode", "errs"},
		"load":            {"media", "transcode", "dsp", "errs", "test/audio"},
		"cmd/tandem":      {"gateway", "lab", "load", "store", "api"},
		"test":            {"*"},
		"test/audio":      {},
		"test/testlog":    {},
	}
}

// free may be imported by everything from sessions up.
func free() []string { return []string{"media", "errs", "webhooks"} }

func TestArchitecture(t *testing.T) {
	out, err := exec.Command("go", "list", "-tags", "nolibopusfile", "-json=ImportPath,Imports", "tandem/...").Output()
	require.NoError(t, err)
	rules := allowed()
	decoder := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p struct {
			ImportPath string
			Imports    []string
		}
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		name := strings.TrimPrefix(p.ImportPath, "tandem/")
		if strings.HasPrefix(name, "test/") && rules[name] == nil {
			name = "test"
		}
		may, listed := rules[name]
		if !listed {
			t.Errorf("package %s has no place in the import table of this test", name)
			continue
		}
		upper := slices.Contains([]string{"sessions", "dialogs", "sip", "sfu", "api", "store"}, name)
		for _, path := range p.Imports {
			imported, ours := strings.CutPrefix(path, "tandem/")
			if !ours || slices.Contains(may, "*") || slices.Contains(may, imported) || (upper && slices.Contains(free(), imported)) {
				continue
			}
			t.Errorf("%s must not import %s (see docs/architecture.md)", name, imported)
		}
	}
}
