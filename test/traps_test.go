package test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestKnownTraps: every test that docs/known-traps.md names exists, and every row names one or says why there is none.
func TestKnownTraps(t *testing.T) {
	text, err := os.ReadFile("../docs/known-traps.md")
	require.NoError(t, err)
	named := regexp.MustCompile("`([a-z/]+)\\.((?:Test|Fuzz)[A-Za-z0-9]+)`")
	known := make(map[string]map[string]bool)
	rows := 0
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "| ") || strings.HasSuffix(line, "| tests |") {
			continue
		}
		rows++
		cells := strings.Split(strings.Trim(line, "|"), "|")
		last := strings.TrimSpace(cells[len(cells)-1])
		tests := named.FindAllStringSubmatch(last, -1)
		if last == "not ours" {
			continue
		}
		require.NotEmpty(t, tests, "no test: %s", line)
		require.Empty(t, strings.TrimSpace(named.ReplaceAllString(last, "")), "not the name of a test: %s", line)
		for _, name := range tests {
			if known[name[1]] == nil {
				known[name[1]] = testsOf(t, name[1])
			}
			require.True(t, known[name[1]][name[2]], "%s.%s does not exist", name[1], name[2])
		}
	}
	require.Greater(t, rows, 60)
}

// testsOf lists the functions of a package's test files.
func testsOf(t *testing.T, dir string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", filepath.FromSlash(dir), "*_test.go"))
	require.NoError(t, err)
	require.NotEmpty(t, files, "%s has no tests", dir)
	found := make(map[string]bool)
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil {
				found[f.Name.Name] = true
			}
		}
	}
	return found
}

// TestSIPLibraryIsRecent: before 1.4.3 one message could stop the process.
func TestSIPLibraryIsRecent(t *testing.T) {
	text, err := os.ReadFile("../go.mod")
	require.NoError(t, err)
	version := regexp.MustCompile(`github\.com/emiago/sipgo v(\d+)\.(\d+)\.(\d+)\n`).FindStringSubmatch(string(text))
	require.NotNil(t, version)
	number := 0
	for _, part := range version[1:] {
		n, err := strconv.Atoi(part)
		require.NoError(t, err)
		number = 1000*number + n
	}
	require.GreaterOrEqual(t, number, 1_004_003)
}
