package test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"tandem/gateway"
	"tandem/test/harness"
)

// migrated is what the log says of every migration.
const migrated = "database schema migrated"

// lastLine is the end of what the demo prints.
const lastLine = "Stop with Ctrl+C.\n\n"

// demo prepares tandem serve --demo, with its ports moved, in a folder.
func demo(t *testing.T, dir string) *harness.Process {
	t.Helper()
	return harness.NewServe(t, dir, "--demo", "--demo-lab", fmt.Sprintf("127.0.0.1:%d", harness.Port(t)))
}

// TestDemo is what a newcomer does: start it, paste the line that it prints, and start it again.
func TestDemo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := demo(t, dir)
	run := p.Start(t)
	run.AwaitStderr(t, migrated)
	page := run.AwaitStdout(t, lastLine)
	require.Regexp(t, `(?m)^ +`+regexp.QuoteMeta(p.URL)+`/$`, page, "the page's address")
	for _, credential := range []string{harness.Account, harness.User, harness.Password} {
		require.Contains(t, page, credential)
	}
	require.Contains(t, p.Get(t, "/"), "<script")

	line := regexp.MustCompile(`(?m)^ +curl (.*\\\n)*.*$`).FindString(page)
	require.NotEmpty(t, line, "a line to paste")
	paste := exec.Command("sh", "-c", line)
	paste.Env = append(os.Environ(), "no_proxy=*")
	answer, err := paste.Output()
	require.NoError(t, err)
	var placed harness.Object
	require.NoError(t, json.Unmarshal(answer, &placed), "%s", answer)
	phone := regexp.MustCompile(`/participants/([^/]+)/dialogs`).FindStringSubmatch(line)[1]
	dialog := placed.Text("dialogId")
	p.WaitState(t, phone, dialog, "ANSWERED")
	run.AwaitStderr(t, "lab: call in")
	require.Equal(t, "+15550105", p.Must(t, http.MethodGet, "/participants/"+phone+"/dialogs/"+dialog, nil).Text("dialogStateData", "to"))

	require.Contains(t, p.Get(t, "/metrics"), "\ngo_gc_gogc_percent 200\n")

	kept, _ := p.Participant(t, "")
	p.Interrupt(t)
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, files, 1, "it keeps to its own folder: %v", files)
	require.Equal(t, "data", files[0].Name())

	run = p.Start(t)
	require.NotContains(t, run.AwaitStderr(t, "msg=ready"), "migrated", "the schema is there")
	require.Equal(t, strings.Count(page, "\n"), strings.Count(run.AwaitStdout(t, lastLine), "\n"), "it says the same again")
	p.Must(t, http.MethodGet, "/participants/"+kept, nil)
	status, _ := p.Do(t, http.MethodGet, "/participants/"+phone, nil)
	require.Equal(t, http.StatusNotFound, status, "the demo of the first run is gone: there is one")
	require.NotContains(t, run.Stdout(), phone)
	p.Interrupt(t)
}

// TestMigrate creates the schema apart from the gateway, which then finds it.
func TestMigrate(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, database string) {
		p := harness.NewProcess(t, database)
		migrate := harness.Command{Args: []string{"migrate", "--config", p.File}}
		run, code := migrate.Run(t)
		require.Zero(t, code)
		require.Contains(t, run.Stderr(), migrated)
		require.Empty(t, run.Stdout())

		run, code = migrate.Run(t)
		require.Zero(t, code)
		require.NotContains(t, run.Stderr(), "migrated", "there is nothing to do")
		require.Empty(t, run.Stdout())

		run = p.Start(t)
		require.NotContains(t, run.AwaitStderr(t, "msg=ready"), "migrated", "serve finds the schema that migrate made")
		p.Must(t, http.MethodGet, "/sessions/"+p.Session(t), nil)
		p.Stop(t)
	})
}

// TestMistakesOnTheCommandLine want one line on standard error, nothing on standard output, and exit code 1.
func TestMistakesOnTheCommandLine(t *testing.T) {
	t.Parallel()
	const serve, listen, account = "serve --config tandem.yaml", "TANDEM_HTTP_LISTEN=environment", "accounts: [{id: a, username: u, password: p}]\n"
	const file = account + "http: {listen: file}"
	nobody := harness.Port(t) // where no database answers
	cases := []struct {
		name, args, env, file string
		want                  string // in the line
	}{
		{"flag beats environment beats file", serve + " --http-listen flag", listen, file, `http.listen: "flag" should be host:port`},
		{"environment beats file", serve, listen, file, `http.listen: "environment" should be host:port`},
		{"the file alone", serve, "", file, `http.listen: "file" should be host:port`},
		{"the file by the environment", "serve", "TANDEM_CONFIG=tandem.yaml", file, `http.listen: "file" should be host:port`},
		{"the file by another flag form", "serve --config=tandem.yaml", "", file, `http.listen: "file" should be host:port`},

		{"no command", "", "", "", "serve"},
		{"unknown command", "sevre", "", "", "sevre"},
		{"unknown flag", "serve --nope", "", "", "unknown flag --nope"},
		{"unknown flag of another command", "migrate --http-listen 127.0.0.1:0", "", "", "unknown flag --http-listen"},
		{"a word too many", "serve --demo now", "", "", "now"},
		{"no file", "serve --config nothing.yaml", "", "", "--config: open nothing.yaml: no such file"},
		{"no file's name", "serve --config", "", "", "--config: needs the name of a file"},
		{"unknown key", serve, "", account + "http: {lisen: x}", "lisen"},
		{"no account", "serve", "", "", "accounts: should list at least one account"},
		{"a hash that is none", serve, "", "accounts: [{id: a, username: u, passwordHash: secret}]", "accounts[0].passwordHash"},
		{"log level", "serve --demo --log-level loud", "", "", "--log-level must be one of"},
		{"duration", "serve --demo", "TANDEM_SIP_RING_TIMEOUT=soon", "", "sip.ringTimeout"},

		{"database of another kind, serve", "serve --demo --database-url mysql://u:hunter2@localhost/x", "", "", "database.url: should be sqlite:FILE or postgres://"},
		{"database of another kind, migrate", "migrate --database-url mysql://u:hunter2@localhost/x", "", "", "database.url: "},
		{"database without a path", "migrate --database-url sqlite:", "", "", "database.url: "},
		{"database in no folder", "migrate --database-url sqlite:tandem.yaml/x.db", "", file, "database.url: "},
		{"database that is none", "migrate --database-url sqlite:tandem.yaml", "", strings.Repeat(file+"\n", 100), "database.url: "},
		{"nobody answers, migrate", fmt.Sprintf("migrate --database-url postgres://u:hunter2@127.0.0.1:%d/x", nobody), "", "", "database.url: "},
		{"nobody answers, serve", fmt.Sprintf("serve --demo --database-url postgres://u:hunter2@localhost:%d/x", nobody), "", "", "database.url: "},

		{"lab on another transport", "lab --listen ftp://127.0.0.1:5090", "", "", "udp://host:port"},
		{"lab nowhere", "lab --listen udp://127.0.0.1", "", "", "udp://127.0.0.1"},
		{"load that is no number", "bench --calls many", "", "", "--calls"},
		{"no password", "hash-password", "", "", "standard input"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			command := harness.Command{Dir: t.TempDir(), Args: strings.Fields(c.args)}
			if c.env != "" {
				command.Env = []string{c.env}
			}
			if c.file != "" {
				require.NoError(t, os.WriteFile(filepath.Join(command.Dir, "tandem.yaml"), []byte(c.file), 0o600))
			}
			refused(t, command, c.want)
		})
	}
}

// refused runs a command that must not work and whose one line has these words.
func refused(t *testing.T, command harness.Command, want ...string) {
	t.Helper()
	run, code := command.Run(t)
	require.Equal(t, 1, code)
	require.Empty(t, run.Stdout())
	line, rest, _ := strings.Cut(run.Stderr(), "\n")
	require.Empty(t, rest, "one line")
	require.True(t, strings.HasPrefix(line, "tandem: "), line)
	for _, words := range want {
		require.Contains(t, line, words)
	}
	require.NotContains(t, line, "hunter2", "a password")
}

// TestPortThatIsTaken is a second demo beside the first, or another program where ours should be.
func TestPortThatIsTaken(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	taken := listener.Addr().String()
	_, port, err := net.SplitHostPort(taken)
	require.NoError(t, err)
	for flag, value := range map[string]string{
		"--http-listen": taken, "--sip-listen": "tcp://" + taken, "--media-webrtc-tcp": port, "--demo-lab": taken,
	} {
		t.Run(strings.TrimPrefix(flag, "--"), func(t *testing.T) {
			t.Parallel()
			args := []string{"serve", "--demo", "--log-level", "error", flag, value}
			for other, free := range map[string]string{
				"--http-listen": "127.0.0.1:0", "--sip-listen": "udp://127.0.0.1:0", "--media-webrtc-udp": "0",
				"--media-webrtc-tcp": "0",
				"--demo-lab":         fmt.Sprintf("127.0.0.1:%d", harness.Port(t)),
			} {
				if other != flag {
					args = append(args, other, free)
				}
			}
			refused(t, harness.Command{Dir: t.TempDir(), Args: args}, port, "address already in use")
		})
	}
}

// TestHelp lists the commands, and the flags of serve.
func TestHelp(t *testing.T) {
	t.Parallel()
	for args, words := range map[string][]string{
		"--help": {"serve", "migrate", "lab", "bench", "hash-password", "http.listen, --http-listen, TANDEM_HTTP_LISTEN"},
		"serve --help": {
			"--config=FILE", "--demo", "--http-listen=HOST:PORT", "--http-public-url=URL", "--security-token-key", "--sip-listen=URL",
			"--media-public-ip=ADDRESS", "--media-rtp-ports", "--database-url=URL", "--limits-session-lifetime", "--log-level",
		},
	} {
		run, code := harness.Command{Args: strings.Fields(args)}.Run(t)
		require.Zero(t, code)
		require.Empty(t, run.Stderr())
		for _, word := range words {
			require.Contains(t, strings.Join(strings.Fields(run.Stdout()), " "), word, args)
		}
	}
}

// TestLabAlone runs the telephone network in a process of its own and calls it from a gateway.
func TestLabAlone(t *testing.T) {
	t.Parallel()
	for name, secret := range map[string]string{"open": "", "with a password": "lab-secret"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := fmt.Sprintf("127.0.0.1:%d", harness.Port(t))
			command := harness.Command{Args: []string{"lab", "--listen", "udp://" + addr}}
			trunk := harness.Trunk("lab", "sip:"+addr+";transport=udp")
			if secret != "" {
				command.Args = append(command.Args, "--username", "tandem", "--password", secret)
				trunk.Username, trunk.Password = "tandem", gateway.Secret(secret)
			}
			run := command.Begin(t)
			require.Eventually(t, func() bool { return strings.Contains(run.Stdout(), "\n") }, harness.Patience, tick)
			require.Contains(t, run.Stdout(), "udp://"+addr)

			cfg := harness.Config(t)
			cfg.Trunks = append(cfg.Trunks, trunk)
			g := harness.Start(t, cfg)
			callbacks := harness.NewCallbacks(t)
			participant, _ := g.Participant(t, callbacks.URL)
			dialog := g.Call(t, participant, "+15550100")
			g.WaitState(t, participant, dialog, "ANSWERED")
			run.Stop(t, syscall.SIGINT)
			end := callbacks.WaitState(t, participant, "TERMINATED")
			require.Equal(t, "hung up by the far end", end.Text("eventData", "details"), "the lab hangs up when it is stopped")
		})
	}
}

// TestHashPassword keeps the password itself out of the configuration.
func TestHashPassword(t *testing.T) {
	t.Parallel()
	command := harness.Command{Args: []string{"hash-password"}, Stdin: harness.Password + "\n"}
	run, code := command.Run(t)
	require.Zero(t, code)
	hash, rest, _ := strings.Cut(run.Stdout(), "\n")
	require.Empty(t, rest, "one line")
	require.NotContains(t, hash, harness.Password)
	again, _ := command.Run(t)
	require.NotEqual(t, run.Stdout(), again.Stdout(), "salted")

	dir := t.TempDir()
	file := fmt.Sprintf("accounts:\n  - {id: %q, username: %s, passwordHash: %q}\n", harness.Account, harness.User, hash)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "tandem.yaml"), []byte(file), 0o600))
	p := harness.NewServe(t, dir, "--config", "tandem.yaml")
	p.Start(t)
	p.Session(t)
	for _, wrong := range []string{"", harness.Password + " ", hash} {
		req, err := http.NewRequest(http.MethodPost, p.URL+"/v1/accounts/"+harness.Account+"/sessions", strings.NewReader("{}"))
		require.NoError(t, err)
		req.SetBasicAuth(harness.User, wrong)
		resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusUnauthorized, resp.StatusCode, wrong)
	}
	p.Stop(t)
}
