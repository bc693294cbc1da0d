package load

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

const (
	maxCalls       = 500
	maxCallSeconds = 20000 // calls × seconds: what arrived is kept in memory, some 15 kB for each
	firstOwnPort   = 10000 // of programs under test
	firstRTPPort   = 20000
	lastRTPPort    = 29999

	pcmu     = "PCMU"
	g722Name = "G722"
)

// Config is a run. The zero value holds 50 calls for a minute.
type Config struct {
	Gateway       []string      // how the gateway is started, --config FILE is appended; empty: this program with serve
	Calls         int           // 0: 50
	Duration      time.Duration // of the hold; 0: one minute
	DropPercent   float64       // of our own packets, in each direction, that are dropped on purpose: the negative control
	RampPerSecond float64       // calls that are set up in a second; 0: 10
	Idle          time.Duration // how long the idle gateway is watched; 0: five seconds
	JSON          bool          // print the Result instead of a table
	Pinned        bool          // the gateway to the last core, this process to the others
	Codec         string        // of the phones: PCMU or G722; empty: PCMU
	PerSession    int           // pairs of a phone and a browser in one session; 0: 1
	Follows       bool          // the browsers offer when they are asked to, and send the band that the answer says
	Passthrough   bool          // the browsers speak PCMU too, in sessions without codecs
	Opus          Opus          // of the gateway's encoders
	Log           *slog.Logger  // nil: nothing is logged
}

// Opus is what a gateway is told about its encoders. The zero value leaves it its defaults.
type Opus struct {
	Complexity int
	Bitrate    int
	NoFEC      bool
	Mono       bool // for a rival whose default is stereo
}

// yaml is the keys of the configuration file's section media.
func (o Opus) yaml() string {
	var text string
	if o.Complexity > 0 {
		text += fmt.Sprintf("  opusComplexity: %d\n", o.Complexity)
	}
	if o.Bitrate > 0 {
		text += fmt.Sprintf("  opusBitrate: %d\n", o.Bitrate)
	}
	if o.NoFEC {
		text += "  opusFEC: false\n"
	}
	return text
}

func (c *Config) defaults() error {
	if c.Calls == 0 {
		c.Calls = 50
	}
	if c.Duration == 0 {
		c.Duration = time.Minute
	}
	if c.RampPerSecond == 0 {
		c.RampPerSecond = 10
	}
	if c.Idle == 0 {
		c.Idle = 5 * time.Second
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.PerSession == 0 {
		c.PerSession = 1
	}
	if c.Codec == "" {
		c.Codec = pcmu
	}
	switch {
	case c.Codec != pcmu && c.Codec != g722Name:
		return fmt.Errorf("load: codec is %q: want PCMU or G722", c.Codec)
	case c.Calls < 1 || c.Calls > maxCalls:
		return fmt.Errorf("load: calls is %d: want 1 to %d", c.Calls, maxCalls)
	case c.Duration < time.Second || c.Duration.Seconds()*float64(c.Calls) > maxCallSeconds:
		return fmt.Errorf("load: duration is %v: want a second or more, and calls × duration up to %d s", c.Duration, maxCallSeconds)
	case c.DropPercent < 0 || c.DropPercent > 50:
		return fmt.Errorf("load: drop is %g %%: want 0 to 50", c.DropPercent)
	case c.RampPerSecond < 0.1 || c.RampPerSecond > 50:
		return fmt.Errorf("load: ramp is %g calls per second: want 0.1 to 50", c.RampPerSecond)
	case c.Idle < 0 || c.Idle > time.Minute:
		return fmt.Errorf("load: idle is %v: want up to a minute", c.Idle)
	}
	if len(c.Gateway) > 0 {
		return nil
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("load: this program's path: %w", err)
	}
	c.Gateway = []string{self, "serve"}
	return nil
}

// gatewayConfig writes the file of the gateway under test into dir, and says where its HTTP and its SIP will be.
func gatewayConfig(ctx context.Context, dir, trunk string, cfg Config) (path, httpAddr, sipAddr string, err error) {
	ports, err := freePorts(ctx, 3)
	if err != nil {
		return "", "", "", err
	}
	http, sipPort, webrtcPort := ports[0], ports[1], ports[2]
	width := 4*cfg.Calls + 100
	rtp := firstRTPPort + 2*rand.IntN((lastRTPPort-firstRTPPort-width)/2)
	httpAddr = "127.0.0.1:" + strconv.Itoa(http)
	text := fmt.Sprintf(`http:
  listen: %s
  publicURL: http://%s
sip:
  listen: [udp://127.0.0.1:%d, tcp://127.0.0.1:%d]
media:
  listen: 127.0.0.1
  rtpPorts: %d-%d
  webrtcUDP: %d
  webrtcTCP: %d
%sdatabase:
  url: sqlite:%s
accounts:
  - id: "%s"
    username: %s
    password: %s
    maxNewPerSecond: 0 # the pace is the load's
trunks:
  - name: bench
    account: "%s"
    uri: %s
    allow: [127.0.0.1/32]
    codecs: [%s]
    prefixes: ["+"]
`, httpAddr, httpAddr, sipPort, sipPort, rtp, rtp+width, webrtcPort, webrtcPort, cfg.Opus.yaml(), filepath.Join(dir, "bench.db"),
		account, username, password, account, trunk, cfg.Codec)
	path = filepath.Join(dir, "tandem.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return "", "", "", fmt.Errorf("load: configuration of the gateway: %w", err)
	}
	return path, httpAddr, "127.0.0.1:" + strconv.Itoa(sipPort), nil
}

// freePorts finds n loopback ports that are free for TCP and UDP. They are below those that the kernel gives to sockets
// without a port, of which the benchmark itself opens hundreds: none of them takes one before the program that it is for.
func freePorts(ctx context.Context, n int) ([]int, error) {
	var lc net.ListenConfig
	var ports []int
	for tries := 0; len(ports) < n; tries++ {
		if tries == 20*n {
			return nil, fmt.Errorf("load: %d ports from %d to %d are not free for TCP and UDP: want %d that are", tries, firstOwnPort, firstRTPPort-1, n)
		}
		port := firstOwnPort + rand.IntN(firstRTPPort-firstOwnPort)
		addr := "127.0.0.1:" + strconv.Itoa(port)
		l, err := lc.Listen(ctx, "tcp4", addr)
		if err != nil {
			continue
		}
		defer func() { _ = l.Close() }() // until then, so that all differ
		if p, err := lc.ListenPacket(ctx, "udp4", addr); err == nil {
			_ = p.Close()
			ports = append(ports, port)
		}
	}
	return ports, nil
}

// freePort finds one.
func freePort(ctx context.Context) (int, error) {
	ports, err := freePorts(ctx, 1)
	if err != nil {
		return 0, err
	}
	return ports[0], nil
}
