package test

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/gateway"
	"tandem/test/harness"
)

// block returns the first block of code in a language under a heading of README.md.
func block(t *testing.T, heading, language string) string {
	t.Helper()
	return blocks(t, "../README.md", heading, language)[0]
}

// blocks returns the blocks of code in a language under a heading of a document; there is at least one.
func blocks(t *testing.T, document, heading, language string) (code []string) {
	t.Helper()
	text, err := os.ReadFile(document)
	require.NoError(t, err)
	_, section, found := strings.Cut(string(text), "\n## "+heading+"\n")
	require.True(t, found, "no %q", heading)
	section, _, _ = strings.Cut(section, "\n## ")
	for {
		_, rest, found := strings.Cut(section, "\n```"+language+"\n")
		if !found {
			require.NotEmpty(t, code, "no %s under %q", language, heading)
			return code
		}
		one, after, found := strings.Cut(rest, "\n```")
		require.True(t, found)
		code, section = append(code, one+"\n"), after
	}
}

// curl stands before the real one in the PATH: it notes what is asked, and what fails, also where the shell does not
// look (in front of a pipe).
const curl = `#!/bin/sh
echo "$*" >>"$NOTES/asked"
"$CURL" --fail-with-body "$@" && exit
echo "$*" >>"$NOTES/failed"
exit 1
`

// TestReadmeCall pastes the walk-through of the README into a shell, beside a demo.
func TestReadmeCall(t *testing.T) {
	t.Parallel()
	script := block(t, "A call with curl", "sh")
	p := demo(t, t.TempDir())
	require.Contains(t, script, "http://127.0.0.1:8080/")
	script = strings.ReplaceAll(script, "http://127.0.0.1:8080", p.URL)
	run := p.Start(t)

	program, err := exec.LookPath("curl")
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "curl"), []byte(curl), 0o700))
	shell := exec.Command("sh", "-eu")
	shell.Stdin = strings.NewReader(script)
	shell.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "NOTES="+dir, "CURL="+program, "no_proxy=*")
	out, err := shell.CombinedOutput()
	failed, _ := os.ReadFile(filepath.Join(dir, "failed"))
	require.NoError(t, err, "%s\n%s", out, failed)
	require.Empty(t, string(failed), "%s", out)
	asked, err := os.ReadFile(filepath.Join(dir, "asked"))
	require.NoError(t, err)

	require.Regexp(t, `(?s)"state":"ANSWERED".*"state":"TERMINATED"`, string(out), "what the newcomer sees")
	path := regexp.MustCompile(`/participants/([^/\s]+)/dialogs/([^/\s]+)`).FindStringSubmatch(string(asked))
	require.NotNil(t, path, "%s", asked)
	dialog := p.Must(t, http.MethodGet, path[0], nil)
	require.Equal(t, "TERMINATED", dialog.Text("state"))
	to := dialog.Text("dialogStateData", "to")
	run.AwaitStderr(t, `msg="lab: call in"`)
	run.AwaitStderr(t, "to="+to)

	session := regexp.MustCompile(`/sessions/([^/\s]+)/participants/`).FindStringSubmatch(string(asked))
	require.NotNil(t, session, "%s", asked)
	_, members := p.Do(t, http.MethodGet, "/sessions/"+session[1]+"/participants", nil)
	require.Contains(t, string(members), path[1], "the phone is in the session")
	require.Equal(t, 2, strings.Count(string(members), `"id"`), "and so is the agent: %s", members)
	p.Stop(t)
}

// TestReadmeConfiguration loads the example, with a hash and a secret where it leaves them out.
func TestReadmeConfiguration(t *testing.T) {
	t.Parallel()
	run, code := harness.Command{Args: []string{"hash-password"}, Stdin: harness.Password}.Run(t)
	require.Zero(t, code)
	text := block(t, "Configuration", "yaml")
	for placeholder, value := range map[string]string{"$argon2id$…": strings.TrimSpace(run.Stdout()), "whsec_…": harness.CallbackSecret} {
		require.Contains(t, text, placeholder)
		text = strings.ReplaceAll(text, placeholder, value)
	}
	require.NotContains(t, text, "…")
	cfg, err := gateway.Load([]byte(text))
	require.NoError(t, err)
	require.Len(t, cfg.Accounts, 1)
	require.Len(t, cfg.Trunks, 1)
}

// TestExamples loads every other piece of configuration in the documents.
func TestExamples(t *testing.T) {
	t.Parallel()
	documents, err := filepath.Glob("../docs/*.md")
	require.NoError(t, err)
	loaded := 0
	for _, document := range documents {
		text, err := os.ReadFile(document)
		require.NoError(t, err)
		for _, example := range regexp.MustCompile("(?s)\n```yaml\n(.*?)\n```\n").FindAllStringSubmatch(string(text), -1) {
			yaml := strings.ReplaceAll(example[1], "folder: sounds ", "folder: .. ") // one that is there
			if !strings.Contains(yaml, "accounts:") {
				yaml += fmt.Sprintf("\naccounts: [{id: %q, username: u, password: p}]\n", harness.Account)
			}
			_, err := gateway.Load([]byte(yaml))
			require.NoError(t, err, "%s:\n%s", document, yaml)
			loaded++
		}
	}
	require.GreaterOrEqual(t, loaded, 4)
}

// TestLinks follows every relative link of the documents.
func TestLinks(t *testing.T) {
	t.Parallel()
	documents, err := filepath.Glob("../docs/*.md")
	require.NoError(t, err)
	require.NotEmpty(t, documents)
	followed := 0
	for _, document := range append(documents, "../README.md", "sipp/README.md") {
		text, err := os.ReadFile(document)
		require.NoError(t, err)
		for _, link := range regexp.MustCompile(`\]\(([^()\s]+)\)`).FindAllStringSubmatch(string(text), -1) {
			u, err := url.Parse(link[1])
			require.NoError(t, err, document)
			if u.Scheme != "" {
				continue
			}
			followed++
			target := filepath.Join(filepath.Dir(document), u.Path)
			if u.Path == "" {
				target = document
			}
			require.FileExists(t, target, "%s: %s", document, link[1])
			if u.Fragment != "" {
				require.Contains(t, headings(t, target), u.Fragment, "%s: %s", document, link[1])
			}
		}
	}
	require.Positive(t, followed)
}

// headings lists a document's headings as they are named in links.
func headings(t *testing.T, document string) (anchors []string) {
	t.Helper()
	text, err := os.ReadFile(document)
	require.NoError(t, err)
	for _, heading := range regexp.MustCompile(`(?m)^#+ +(.*?) *$`).FindAllStringSubmatch(string(text), -1) {
		name := regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(heading[1]), "")
		anchors = append(anchors, strings.ReplaceAll(name, " ", "-"))
	}
	return anchors
}
