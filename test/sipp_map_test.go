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

// TestSIPpMap: each scenario of test/sipp stands in a row of the map of its README, and a test of that row runs it; what
// else the README names exists too.
func TestSIPpMap(t *testing.T) {
	text, err := os.ReadFile("sipp/README.md")
	require.NoError(t, err)
	files, err := filepath.Glob("sipp/*.xml")
	require.NoError(t, err)
	scenarios := make(map[string]bool) // whether a row has it
	for _, name := range files {
		scenarios[strings.TrimSuffix(filepath.Base(name), ".xml")] = false
	}
	require.Greater(t, len(scenarios), 100)
	for _, name := range regexp.MustCompile("`(ua[cs]_[a-z0-9_]+)`").FindAllStringSubmatch(string(text), -1) {
		require.Contains(t, scenarios, name[1])
	}

	_, table, found := strings.Cut(string(text), "\n## What is tried\n")
	require.True(t, found)
	table, _, _ = strings.Cut(table, "\n## ")
	code := regexp.MustCompile("`([^`]+)`")
	runs := make(map[string]map[string]string)
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if !strings.HasPrefix(line, "| ") || strings.TrimSpace(cells[0]) == "what" {
			continue
		}
		require.Len(t, cells, 5, line)
		tests := code.FindAllStringSubmatch(cells[4], -1)
		require.NotEmpty(t, tests, "no test: %s", line)
		named := "" // the scenarios that these tests name
		for _, test := range tests {
			dir, function, _ := strings.Cut(test[1], ".")
			if runs[dir] == nil {
				runs[dir] = namedBy(t, dir)
			}
			require.Contains(t, runs[dir], function, "%s does not exist", test[1])
			require.Contains(t, function, "Test", line)
			named += runs[dir][function]
		}
		for i, role := range []string{"uas_", "uac_"} {
			for _, scenario := range code.FindAllStringSubmatch(cells[1+i], -1) {
				require.True(t, strings.HasPrefix(scenario[1], role), "%s is in the wrong column", scenario[1])
				require.Contains(t, named, " "+scenario[1]+" ", "no test of its row runs it: %s", line)
				scenarios[scenario[1]] = true
			}
		}
		require.Equal(t, code.MatchString(cells[1]+cells[2]), strings.TrimSpace(cells[3]) != "", "over which transports: %s", line)
	}
	for name, stands := range scenarios {
		require.True(t, stands, "%s is in no row", name)
	}
}

// TestSIPpTransactions: SIPp takes no answer for that to another request. Only where it cannot tell them by their branch
// may an answer name no transaction.
func TestSIPpTransactions(t *testing.T) {
	unnamed := map[string]string{
		"uac_cancel":      "the CANCEL has the branch of its INVITE",
		"uac_cancel_late": "the CANCEL has the branch of its INVITE",
		"uac_full":        "one line sends many INVITEs",
		"uac_no_ack":      "no ACK is sent",
		"uac_scanner":     "no ACK is sent",
		"uac_unknown":     "no ACK is sent",
	}
	files, err := filepath.Glob("sipp/*.xml")
	require.NoError(t, err)
	without := make(map[string]bool)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		scenario := strings.TrimSuffix(filepath.Base(file), ".xml")
		for _, answer := range regexp.MustCompile(`<recv [^>]*response="[^>]*>`).FindAllString(string(text), -1) {
			if !strings.Contains(answer, " response_txn=") {
				require.Contains(t, unnamed, scenario, answer)
				without[scenario] = true
			}
		}
	}
	require.Len(t, without, len(unnamed), "whoever names all is not listed")
}

// namedBy lists the scenarios that each function of a package's tests names, between blanks.
func namedBy(t *testing.T, dir string) map[string]string {
	t.Helper()
	if dir == "test" {
		dir = "."
	} else {
		dir = filepath.Join("..", filepath.FromSlash(dir))
	}
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	require.NoError(t, err)
	require.NotEmpty(t, files, "%s has no tests", dir)
	scenario := regexp.MustCompile(`^ua[cs]_[a-z0-9_]+$`)
	named := make(map[string]string)
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Recv != nil {
				continue
			}
			named[f.Name.Name] = " "
			ast.Inspect(f, func(n ast.Node) bool {
				if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING {
					if s, err := strconv.Unquote(l.Value); err == nil && scenario.MatchString(s) {
						named[f.Name.Name] += s + " "
					}
				}
				return true
			})
		}
	}
	return named
}
