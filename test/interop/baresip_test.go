package interop

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tandem/test/audio"
	"tandem/test/harness"
)

// phoneRate is the sampling rate of what baresip plays and records, in Hz.
const phoneRate = 8000

// The numbers under which softphones are called.
const (
	deskNumber      = "+15557777"
	colleagueNumber = "+15558888"
)

// softphone is what a test wants of a baresip.
type softphone struct {
	transport string  // udp, tcp or tls
	srtp      string  // what it does about SRTP: empty, srtp (optional) or srtp-mand
	hz        float64 // the tone that it says
	ca        harness.Authority
	account   string // more of its account line
	registrar string // where it registers; empty: nowhere
	number    string // under which it is called; empty: deskNumber
	manual    bool   // it does not answer by itself
	codecs    string // that it speaks, as its account has them; empty: PCMU,PCMA
	rate      int    // of what it says and hears, in Hz; 0: phoneRate
}

// baresip is a running softphone. The test drives it through its control socket.
type baresip struct {
	number  string
	port    int // its SIP port for UDP and TCP; that of TLS is the next
	dir     string
	rate    int // of what it says and hears, in Hz
	control net.Conn

	mu      sync.Mutex
	events  []event
	changed chan struct{}
}

// event is what baresip reports on its control socket.
type event struct {
	Type      string `json:"type"`
	Class     string `json:"class"`
	Direction string `json:"direction"`
	Peer      string `json:"peeruri"`
	Param     string `json:"param"`
	Response  bool   `json:"response"`
	OK        bool   `json:"ok"`
	Data      string `json:"data"`
}

// startBaresip runs a softphone until the test ends.
func startBaresip(t *testing.T, want softphone) *baresip {
	t.Helper()
	program, err := exec.LookPath("baresip")
	require.NoError(t, err, "baresip comes with scripts/install test")
	b := &baresip{
		number: cmp.Or(want.number, deskNumber), port: portPair(t), dir: t.TempDir(), rate: cmp.Or(want.rate, phoneRate),
		changed: make(chan struct{}),
	}
	controlPort := harness.Port(t)
	rtp := rtpRange(t)
	cert := want.ca.Issue(t, b.dir, "127.0.0.1")
	say := filepath.Join(b.dir, "say.wav") // longer than any test: it is not repeated
	require.NoError(t, audio.WriteWAV(say, audio.Tone(want.hz, -12, b.rate, 2*time.Minute), b.rate))
	config := fmt.Sprintf(`poll_method epoll
sip_listen 127.0.0.1:%d
sip_certificate %s
sip_cafile %s
sip_verify_server yes
call_max_calls 4
audio_player aubridge,nowhere
audio_source aufile,%s
audio_alert aubridge,nowhere
ausrc_srate %d
auplay_srate %d
ausrc_channels 1
auplay_channels 1
audio_buffer 20-160
rtp_ports %d-%d
net_interface 127.0.0.1
module_path %s
module g711.so
module g722.so
module opus.so
module auresamp.so
module aufile.so
module aubridge.so
module sndfile.so
module srtp.so
module_app account.so
module_app menu.so
module ctrl_tcp.so
ctrl_tcp_listen 127.0.0.1:%d
snd_path %s
`, b.port, cert, want.ca.File, say, b.rate, b.rate, rtp, rtp+18, modules(t, program), controlPort, b.dir)
	transport := want.transport
	if transport == "" {
		transport = "udp"
	}
	account := fmt.Sprintf("<sip:%s@127.0.0.1;transport=%s>;audio_codecs=%s", b.number, transport, cmp.Or(want.codecs, "PCMU,PCMA"))
	if want.registrar != "" {
		account += fmt.Sprintf(";regint=60;auth_user=%s;auth_pass=%s;outbound=\"%s\"", registrarUser, registrarPassword, want.registrar)
	} else {
		account += ";regint=0"
	}
	if !want.manual {
		account += ";answermode=auto"
	}
	if want.srtp != "" {
		account += ";mediaenc=" + want.srtp
	}
	for name, text := range map[string]string{"config": config, "accounts": account + want.account + "\n", "contacts": ""} {
		require.NoError(t, os.WriteFile(filepath.Join(b.dir, name), []byte(text), 0o600))
	}
	run(t, exec.Command(program, "-f", b.dir, "-v"), nil)
	b.dialControl(t, fmt.Sprintf("127.0.0.1:%d", controlPort))
	return b
}

// modules is where Debian keeps baresip's modules.
func modules(t *testing.T, program string) string {
	t.Helper()
	for _, dir := range []string{"/usr/lib/baresip/modules", filepath.Join(filepath.Dir(program), "../lib/baresip/modules")} {
		if _, err := os.Stat(filepath.Join(dir, "g711.so")); err == nil {
			return dir
		}
	}
	require.FailNow(t, "baresip's modules are not where Debian puts them")
	return ""
}

// portPair finds two free ports in a row.
func portPair(t *testing.T) int {
	t.Helper()
	for range 100 {
		port := harness.Port(t)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port+1))
		if err == nil {
			require.NoError(t, l.Close())
			return port
		}
	}
	require.FailNow(t, "no two free ports in a row")
	return 0
}

var (
	rtpMu   sync.Mutex
	nextRTP = 30000
)

// rtpRange gives each softphone RTP ports of its own.
func rtpRange(t *testing.T) int {
	t.Helper()
	rtpMu.Lock()
	defer rtpMu.Unlock()
	nextRTP += 20
	return nextRTP
}

// run lets a program work until the test ends and shows what it writes in the test's log, and to read, which may be nil.
func run(t *testing.T, cmd *exec.Cmd, read func(line string)) {
	t.Helper()
	out, in := io.Pipe()
	cmd.Stdout, cmd.Stderr = in, in
	stdin, err := cmd.StdinPipe() // it never says anything; some programs end when it closes
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	shown := make(chan struct{})
	go func() {
		defer close(shown)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			t.Logf("%s: %s", filepath.Base(cmd.Path), lines.Text())
			if read != nil {
				read(lines.Text())
			}
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			_ = cmd.Wait()
		}()
		select {
		case <-gone:
		case <-time.After(5 * time.Second):
			_ = cmd.Process.Kill()
			<-gone
		}
		_ = stdin.Close()
		_ = in.Close()
		<-shown
	})
}

// dialControl connects to the control socket and reads it.
func (b *baresip) dialControl(t *testing.T, addr string) {
	t.Helper()
	require.Eventually(t, func() bool {
		var err error
		b.control, err = net.Dial("tcp", addr)
		return err == nil
	}, harness.Patience, 20*time.Millisecond, "baresip did not start")
	read := make(chan struct{})
	go func() {
		defer close(read)
		b.read()
	}()
	t.Cleanup(func() {
		_ = b.control.Close()
		<-read
	})
}

// read takes netstrings from the control socket.
func (b *baresip) read() {
	r := bufio.NewReader(b.control)
	for {
		length, err := r.ReadString(':')
		if err != nil {
			return
		}
		n, err := strconv.Atoi(strings.TrimSuffix(length, ":"))
		if err != nil || n > 1<<20 {
			return
		}
		text := make([]byte, n+1) // and the comma
		if _, err := io.ReadFull(r, text); err != nil {
			return
		}
		var e event
		_ = json.Unmarshal(text[:n], &e)
		b.mu.Lock()
		b.events = append(b.events, e)
		close(b.changed)
		b.changed = make(chan struct{})
		b.mu.Unlock()
	}
}

// waitRegistered waits until its registrar has taken it.
func (b *baresip) waitRegistered(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool { return strings.Contains(b.do(t, "reginfo", ""), "OK") },
		harness.Patience, 50*time.Millisecond, "baresip was never registered")
}

// do gives a command, waits for its answer and returns it.
func (b *baresip) do(t *testing.T, command, params string) string {
	t.Helper()
	b.mu.Lock()
	before := len(b.events)
	b.mu.Unlock()
	text, err := json.Marshal(map[string]string{"command": command, "params": params, "token": command})
	require.NoError(t, err)
	_, err = fmt.Fprintf(b.control, "%d:%s,", len(text), text)
	require.NoError(t, err)
	answer := b.waitFrom(t, before, "the answer to "+command, func(e event) bool { return e.Response })
	require.True(t, answer.OK, "%s %s: %s", command, params, answer.Data)
	return answer.Data
}

// wait waits for an event of this type that came since the softphone started.
func (b *baresip) wait(t *testing.T, kind string) event {
	t.Helper()
	return b.waitFrom(t, 0, kind, func(e event) bool { return e.Type == kind })
}

func (b *baresip) waitFrom(t *testing.T, from int, what string, f func(event) bool) event {
	t.Helper()
	deadline := time.After(harness.Patience)
	for {
		b.mu.Lock()
		changed := b.changed
		i := slices.IndexFunc(b.events[from:], f)
		var found event
		if i >= 0 {
			found = b.events[from+i]
		}
		b.mu.Unlock()
		if i >= 0 {
			return found
		}
		select {
		case <-changed:
		case <-deadline:
			b.mu.Lock()
			defer b.mu.Unlock()
			require.FailNow(t, "baresip never reported "+what, "%+v", b.events)
		}
	}
}

// uri is where it is called over a transport.
func (b *baresip) uri(transport string) string {
	port := b.port
	if transport == "tls" {
		port++
	}
	return fmt.Sprintf("sip:127.0.0.1:%d;transport=%s", port, transport)
}

// aor is the address under which others call it over a transport.
func (b *baresip) aor(transport string) string {
	return strings.Replace(b.uri(transport), "sip:", "sip:"+b.number+"@", 1)
}

// heard returns what the softphone decoded of its calls so far: one recording for each, the oldest first. A recording is
// whole once its call is over.
func (b *baresip) heard(t *testing.T) [][]int16 {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(b.dir, "*-dec.wav"))
	require.NoError(t, err)
	slices.Sort(files)
	var all [][]int16
	for _, file := range files {
		all = append(all, readLeft(t, file, b.rate))
	}
	return all
}

// readLeft reads a WAV file of 16 bits with one channel or the left one of two, as libsndfile writes it: the sound is at its end.
func readLeft(t *testing.T, file string, rate int) []int16 {
	t.Helper()
	whole, err := os.ReadFile(file)
	require.NoError(t, err)
	at := bytes.Index(whole, []byte("data"))
	require.Greater(t, at, 24, file)
	channels := int(binary.LittleEndian.Uint16(whole[22:]))
	require.EqualValues(t, rate, binary.LittleEndian.Uint32(whole[24:]), file)
	require.EqualValues(t, 2*channels, binary.LittleEndian.Uint16(whole[32:]), "%s: bytes of a frame", file)
	sound := whole[at+8:]
	out := make([]int16, len(sound)/2/channels)
	for i := range out {
		out[i] = int16(binary.LittleEndian.Uint16(sound[2*channels*i:]))
	}
	return out
}
