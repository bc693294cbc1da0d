package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// note is a command that does nothing but note how it was called.
const note = `echo "${0##*/} $* DEBIAN_FRONTEND=$DEBIAN_FRONTEND" >>"$NOTES"` + "\n"

// TestInstall runs scripts/install on machines that lack something. Nothing is installed: apt-get only takes notes.
func TestInstall(t *testing.T) {
	t.Parallel()
	const aptGet, sudo = note, note + `exec env -i PATH="$PATH" NOTES="$NOTES" "$@"` + "\n" // it keeps nothing else
	root, somebody := "echo 0\n", "echo 1000\n"
	const install = "apt-get install -y -qq --no-install-recommends "
	cases := []struct {
		name   string
		what   string
		has    []string          // of the real commands
		fakes  map[string]string // name → what it does
		code   int
		says   []string
		called []string
	}{
		{
			"everything is there", "build",
			[]string{"gcc"},
			map[string]string{"pkg-config": "", "apt-get": aptGet, "sudo": sudo, "id": somebody},
			0, nil, nil,
		},
		{
			"no pkg-config, as root", "build",
			[]string{"gcc"},
			map[string]string{"apt-get": aptGet, "id": root},
			0,
			[]string{
				"missing: pkg-config (tells the compiler where the Opus library is)", "missing: libopus-dev (the Opus codec)",
				"installing: pkg-config libopus-dev",
			},
			[]string{"apt-get update -qq", install + "pkg-config libopus-dev"},
		},
		{
			"no Opus, as somebody who may use sudo", "build",
			[]string{"gcc", "env"},
			map[string]string{"pkg-config": "exit 1\n", "apt-get": aptGet, "sudo": sudo, "id": somebody},
			0,
			[]string{"missing: libopus-dev (the Opus codec)", "installing: libopus-dev"},
			[]string{"sudo", "apt-get update -qq", "sudo", install + "libopus-dev"},
		},
		{
			"no compiler, as somebody without sudo", "build", nil,
			map[string]string{"pkg-config": "", "apt-get": aptGet, "id": somebody},
			1,
			[]string{"missing: gcc (compiles the binding to the Opus library)", "Run this as root, or install sudo: apt-get install gcc"},
			nil,
		},
		{
			"another distribution", "build",
			[]string{"gcc"},
			map[string]string{"id": root},
			1,
			[]string{"missing: pkg-config", "neither Debian nor Ubuntu: please install what is missing yourself"},
			nil,
		},
		{
			"nothing that the tests need", "test",
			[]string{"gcc", "grep"},
			map[string]string{"pkg-config": "", "ls": "exit 2\n", "apt-get": aptGet, "id": root},
			0,
			[]string{
				"missing: sip-tester (SIP scenarios)", "missing: sipvicious (a scanner, to be banned)",
				"missing: baresip-core (a softphone that the gateway is tried against)",
				"missing: kamailio (a proxy and registrar that the gateway is tried against)", "missing: kamailio-tls-modules (its TLS)",
				"missing: postgresql (the tests run on it beside SQLite)",
				"missing: nodejs (runs the published server SDK)", "missing: python3 (runs the application of docs/callers.md)",
				"missing: curl (runs the lines of the documents)", "missing: npm (fetches the published SDKs)", "missing: chromium",
			},
			[]string{"apt-get update -qq", install + "sip-tester sipvicious baresip-core kamailio kamailio-tls-modules postgresql nodejs python3 curl npm chromium"},
		},
		{
			"nothing that the benchmark needs", "bench",
			[]string{"gcc"},
			map[string]string{"pkg-config": "", "ls": "exit 2\n", "apt-get": aptGet, "id": root},
			0,
			[]string{
				"missing: rtpengine-daemon (the rival: calls are held over it too)",
				"missing: janus (a rival: calls that need no codec, and a session of 20, are held over it too)",
				"missing: util-linux (keeps that one by itself)", "missing: iproute2 (the same)",
				"missing: asterisk-core-sounds-en-g722 (a voice for the calls)",
			},
			[]string{"apt-get update -qq", install + "rtpengine-daemon janus util-linux iproute2 asterisk-core-sounds-en-g722"},
		},
		{
			"all that the tests need", "test",
			[]string{"gcc", "grep"},
			map[string]string{
				"pkg-config": "", "ls": "", "sipp": "", "svwar": "", "baresip": "", "node": "", "python3": "", "curl": "", "npm": "", "chromium": "",
				"apt-get": aptGet, "id": root,
			},
			0, nil, nil,
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, "bin")
			require.NoError(t, os.Mkdir(path, 0o700))
			for _, name := range c.has {
				command, err := exec.LookPath(name)
				require.NoError(t, err)
				require.NoError(t, os.Symlink(command, filepath.Join(path, name)))
			}
			for name, does := range c.fakes {
				require.NoError(t, os.WriteFile(filepath.Join(path, name), []byte("#!/bin/sh\n"+does), 0o700))
			}
			notes := filepath.Join(dir, "notes")
			script := exec.Command("../scripts/install", c.what)
			script.Env = []string{"PATH=" + path, "NOTES=" + notes}
			out, err := script.CombinedOutput()
			require.Equal(t, c.code, script.ProcessState.ExitCode(), "%v: %s", err, out)
			if c.says == nil {
				require.Empty(t, string(out), "it has nothing to say")
			}
			for _, words := range c.says {
				require.Contains(t, string(out), words)
			}
			called, err := os.ReadFile(notes)
			if c.called == nil {
				require.ErrorIs(t, err, os.ErrNotExist, "%s", called)
				return
			}
			require.NoError(t, err)
			lines := strings.Split(strings.TrimSpace(string(called)), "\n")
			require.Len(t, lines, len(c.called), "%s", called)
			for i, line := range lines {
				require.True(t, strings.HasPrefix(line, c.called[i]), "%q should begin with %q", line, c.called[i])
				if strings.HasPrefix(line, "apt-get") {
					require.True(t, strings.HasSuffix(line, "DEBIAN_FRONTEND=noninteractive"), "a package may ask: %q", line)
				}
			}
		})
	}
}

// TestInstallHere is every make after the first: silent and done.
func TestInstallHere(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("../scripts/install", "build").CombinedOutput()
	require.NoError(t, err)
	require.Empty(t, string(out))
}

// TestBenchScript ends with the first benchmark that fails, although others read what it prints.
func TestBenchScript(t *testing.T) {
	path := t.TempDir()
	for _, name := range []string{"dirname", "awk", "grep"} {
		command, err := exec.LookPath(name)
		require.NoError(t, err)
		require.NoError(t, os.Symlink(command, filepath.Join(path, name)))
	}
	for name, does := range map[string]string{
		"nothing":                 "echo it does not compile; exit 1\n",
		"figures":                 "echo 'BenchmarkPairRatio 1 90000 bridge-ns/pair 80000 libopus-ns/pair 1.1 ratio'; echo it panicked; exit 2\n",
		"nothing, and no failure": "echo it panicked\n",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(path, "go"), []byte("#!/bin/sh\n"+does), 0o700))
		script := exec.Command("../scripts/bench")
		script.Env = []string{"PATH=" + path}
		out, err := script.CombinedOutput()
		require.Error(t, err, name)
		require.Contains(t, string(out), "the benchmark failed", name)
		if name != "nothing, and no failure" {
			require.Contains(t, string(out), "it ", name)
		}
	}
}
