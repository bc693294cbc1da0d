package sfu

import (
	"net/netip"
	"time"

	"github.com/pion/webrtc/v4"
)

// subscribingIs follows the subscribing connection. The device cannot repair it, so we do.
func (d *Device) subscribingIs(state webrtc.PeerConnectionState) {
	d.state = state
	switch state {
	case webrtc.PeerConnectionStateConnected:
		d.reconnect.Stop()
		d.patience = 0
		d.subscribe.connected()
		d.subscribe.refresh()
	case webrtc.PeerConnectionStateDisconnected, webrtc.PeerConnectionStateFailed:
		if state == webrtc.PeerConnectionStateFailed { // nobody consents to packets any more (RFC 7675 §5.1)
			d.subscribe.way.move(netip.AddrPort{})
		}
		if d.patience == 0 {
			d.restartICE()
		}
	case webrtc.PeerConnectionStateClosed:
		d.subscribe.way.move(netip.AddrPort{})
	default:
	}
}

// restartICE lets the next offer restart ICE, and again, ever more patiently, until the connection is up.
func (d *Device) restartICE() {
	if d.state == webrtc.PeerConnectionStateConnected || d.state == webrtc.PeerConnectionStateClosed {
		return
	}
	d.patience = min(max(2*d.patience, d.server.cfg.OfferTimeout), time.Minute)
	d.reconnect.Reset(d.patience)
	d.subscribe.restart = true
}
