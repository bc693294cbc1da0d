package load

import (
	"context"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/pion/sdp/v3"
	"github.com/pion/srtp/v3"
)

const (
	rivalProgram   = "rtpengine"
	rivalFirstPort = 40000
	rivalPorts     = 4000
)

// rtpengine is the rival, as Debian packages it: in user space, with its default settings.
type rtpengine struct {
	ng    *ngClient
	name  string // of this run's calls
	opus  Opus
	codec string
}

// hasRTPEngine says whether it is installed.
func hasRTPEngine() bool {
	_, err := exec.LookPath(rivalProgram)
	return err == nil
}

// startRTPEngine starts it as b.child.
func (b *bench) startRTPEngine(ctx context.Context, dir string) error {
	port, err := freePort(ctx)
	if err != nil {
		return err
	}
	control := "127.0.0.1:" + strconv.Itoa(port)
	first := rivalFirstPort + rand.IntN(10)*rivalPorts/10
	argv := append(pinned(b.cfg.Pinned), rivalProgram, "--config-file=none", "--foreground", "--log-stderr", "--table=-1",
		"--interface=127.0.0.1", "--listen-ng="+control,
		"--port-min="+strconv.Itoa(first), "--port-max="+strconv.Itoa(first+rivalPorts))
	g := &rtpengine{name: fmt.Sprintf("%08x", rand.Uint32()), opus: b.cfg.Opus, codec: b.cfg.Codec}
	if g.ng, err = dialNG(ctx, control); err != nil {
		return err
	}
	b.child, err = startProcess(ctx, argv, filepath.Join(dir, "rival.log"), func(ctx context.Context, c *child) error {
		ctx, cancel := context.WithTimeout(ctx, readyLimit)
		defer cancel()
		for {
			_, err := g.ng.do(ctx, map[string]any{"command": "ping"}, "pong")
			select {
			case <-c.exited:
				return fmt.Errorf("load: rtpengine: %w", errEnded)
			case <-ctx.Done():
				return err
			default:
			}
			if err == nil {
				return nil
			}
		}
	})
	b.plain = g
	return err
}

// transcode is what it is asked for: Opus alone is its default, 48 kHz, stereo, 32 kbit/s.
func (g *rtpengine) transcode() string {
	if !g.opus.Mono && g.opus.Bitrate == 0 {
		return "opus"
	}
	channels, bitrate := 2, 32000
	if g.opus.Mono {
		channels, bitrate = 1, 24000
	}
	if g.opus.Bitrate > 0 {
		bitrate = g.opus.Bitrate
	}
	return fmt.Sprintf("opus/48000/%d/%d", channels, bitrate)
}

// call has the phone offer and the other end answer.
func (g *rtpengine) call(ctx context.Context, number int, p *phone, far *srtpEnd) (*srtp.Context, error) {
	id := g.name + "-" + strconv.Itoa(number)
	answer, err := g.ng.do(ctx, map[string]any{
		"command": "offer", "call-id": id, "from-tag": "phone", "sdp": string(p.sdp()),
		"ICE": "remove", "DTLS": "off", "transport-protocol": "RTP/SAVP",
		"codec": map[string]any{"transcode": []any{g.transcode()}, "mask": []any{g.codec}},
	}, "ok")
	if err != nil {
		return nil, err
	}
	offered, _ := answer["sdp"].(string)
	tag, secret, payloadType, remote, err := offeredSRTP(offered)
	if err != nil {
		return nil, err
	}
	far.remote, far.payloadType = remote, payloadType
	far.header.PayloadType = payloadType
	answer, err = g.ng.do(ctx, map[string]any{
		"command": "answer", "call-id": id, "from-tag": "phone", "to-tag": "browser", "sdp": far.sdp(tag, g.opus.Mono),
	}, "ok")
	if err != nil {
		return nil, err
	}
	answered, _ := answer["sdp"].(string)
	toPhone, err := remoteRTP([]byte(answered))
	if err != nil {
		return nil, err
	}
	p.remote.Store(&toPhone)
	return newSRTP(secret)
}

// offeredSRTP finds the address, the Opus payload type and the key with our profile in an offer.
func offeredSRTP(text string) (tag string, secret []byte, payloadType uint8, remote netip.AddrPort, err error) {
	fail := func(what string) (string, []byte, uint8, netip.AddrPort, error) {
		return "", nil, 0, netip.AddrPort{}, fmt.Errorf("load: no %s in the offer %q", what, text)
	}
	if remote, err = remoteRTP([]byte(text)); err != nil {
		return "", nil, 0, remote, err
	}
	var d sdp.SessionDescription
	if err := d.UnmarshalString(text); err != nil || len(d.MediaDescriptions) == 0 {
		return fail("media")
	}
	for _, a := range d.MediaDescriptions[0].Attributes {
		fields := strings.Fields(a.Value)
		switch {
		case a.Key == "rtpmap" && len(fields) == 2 && strings.HasPrefix(fields[1], "opus/"):
			n, err := strconv.ParseUint(fields[0], 10, 7)
			if err != nil {
				return fail("payload type")
			}
			payloadType = uint8(n)
		case a.Key == "crypto" && len(fields) > 2 && fields[1] == srtpSuite:
			key, _, _ := strings.Cut(strings.TrimPrefix(fields[2], "inline:"), "|")
			if secret, err = base64.StdEncoding.WithPadding(base64.NoPadding).DecodeString(strings.TrimRight(key, "=")); err != nil {
				return fail("key")
			}
			tag = fields[0]
		}
	}
	if tag == "" || payloadType == 0 {
		return fail(srtpSuite + " and Opus")
	}
	return tag, secret, payloadType, remote, nil
}
