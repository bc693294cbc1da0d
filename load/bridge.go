package load

import (
	"context"
	"fmt"
	"net"
	"net/netip"
)

// bridgeRoom is the number of the room in Janus; it mixes at its default rate, 16 kHz.
const bridgeRoom = 4321

// startBridge starts Janus with a room that phones join over plain RTP with PCMU, and browsers over WebRTC with Opus.
func (b *bench) startBridge(ctx context.Context, dir string) error {
	j, err := b.startJanus(ctx, dir)
	if err != nil {
		return err
	}
	b.rival = j
	handle, err := j.attach(ctx, audiobridge)
	if err == nil {
		_, err = j.ask(ctx, handle, map[string]any{"request": "create", "room": bridgeRoom, "allow_rtp_participants": true}, nil, nil)
	}
	if err != nil {
		j.close()
		b.child.stop()
		return err
	}
	b.connect = func(ctx context.Context, c *pair, far *peerEnd) error {
		if !c.phoneless {
			if err := j.joinPhone(ctx, c.phone); err != nil {
				return err
			}
		}
		return j.joinBrowser(ctx, far)
	}
	return nil
}

// joinPhone lets a phone in.
func (j *janus) joinPhone(ctx context.Context, p *phone) error {
	handle, err := j.attach(ctx, audiobridge)
	if err != nil {
		return err
	}
	at, ok := p.conn.LocalAddr().(*net.UDPAddr)
	if !ok {
		return fmt.Errorf("load: %s is no UDP address", p.conn.LocalAddr())
	}
	var joined struct {
		RTP struct {
			IP   string `json:"ip"`
			Port uint16 `json:"port"`
		} `json:"rtp"`
	}
	_, err = j.ask(ctx, handle, map[string]any{
		"request": "join", "room": bridgeRoom, "codec": "pcmu", "rtp": map[string]any{"ip": at.IP.String(), "port": at.Port},
	}, nil, &joined)
	if err != nil {
		return err
	}
	ip, err := netip.ParseAddr(joined.RTP.IP)
	if err != nil {
		return fmt.Errorf("load: Janus: address of a phone: %w", err)
	}
	remote := netip.AddrPortFrom(ip, joined.RTP.Port)
	p.remote.Store(&remote)
	return nil
}

// joinBrowser lets a browser in.
func (j *janus) joinBrowser(ctx context.Context, far *peerEnd) error {
	handle, err := j.attach(ctx, audiobridge)
	if err != nil {
		return err
	}
	if _, err := j.ask(ctx, handle, map[string]any{"request": "join", "room": bridgeRoom}, nil, nil); err != nil {
		return err
	}
	offer, err := far.offer(ctx)
	if err != nil {
		return err
	}
	answer, err := j.ask(ctx, handle, map[string]any{"request": "configure", "muted": false}, offer, nil)
	if err != nil {
		return err
	}
	if answer == nil {
		return fmt.Errorf("load: Janus has no answer for the browser: %w", errEnded)
	}
	return far.accept(ctx, answer.SDP)
}
