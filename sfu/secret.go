package sfu

import (
	"net/netip"
	"reflect"
	"strings"

	"github.com/pion/dtls/v3"
	"github.com/pion/srtp/v3"
	"github.com/pion/webrtc/v4"
)

const replayWindow = 64 // packets (RFC 3711 §3.3.2)

// incomingSecret makes what decrypts the packets of a connection's far end (RFC 5764 §4.2); nil: it can't be had, and Pion has to read
// them. Pion keeps its DTLS connection, which alone can tell the keys, in a field that is not exported:
// TestSoundIsTakenAtThePort fails where a newer Pion has none of that name.
func incomingSecret(pc *webrtc.PeerConnection) *srtp.Context {
	field := reflect.ValueOf(pc.SCTP().Transport()).Elem().FieldByName("conn")
	if !field.IsValid() || field.Type() != reflect.TypeFor[*dtls.Conn]() || field.IsNil() || pc.LocalDescription() == nil {
		return nil
	}
	conn := (*dtls.Conn)(field.UnsafePointer())
	state, known := conn.ConnectionState()
	profile, agreed := conn.SelectedSRTPProtectionProfile()
	if !known || !agreed {
		return nil
	}
	cfg := srtp.Config{Profile: srtp.ProtectionProfile(profile)} // both have IANA's numbers
	client := strings.Contains(pc.LocalDescription().SDP, "a=setup:active")
	if cfg.ExtractSessionKeysFromDTLS(&state, client) != nil {
		return nil
	}
	secret, err := srtp.CreateContext(cfg.Keys.RemoteMasterKey, cfg.Keys.RemoteMasterSalt, cfg.Profile, srtp.SRTPReplayProtection(replayWindow))
	if err != nil {
		return nil
	}
	return secret
}

// overPort is where the packets of a pair come from if they come to the browsers' UDP port; else it isn't valid.
func overPort(pair *webrtc.ICECandidatePair) netip.AddrPort {
	if pair == nil || pair.Remote == nil || pair.Remote.Protocol != webrtc.ICEProtocolUDP {
		return netip.AddrPort{}
	}
	addr, err := netip.ParseAddr(pair.Remote.Address)
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(addr.Unmap(), pair.Remote.Port)
}
