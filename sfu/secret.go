package sfu

import (
	"net/netip"
	"reflect"
	"strings"

	"github.com/pion/dtls/v3"
	"github.com/pion/srtp/v3"
	"github.com/pion/webrtc/v4"
)

const (
	replayWindow = 64 // packets (RFC 3711 §3.3.2)
	maxTag       = 20 // bytes that encryption adds at most
)

// secrets are the keys of a connection's packets (RFC 5764 §4.2); nil: they can't be had, and Pion has to read and write them. Pion
// keeps its DTLS connection, which alone can tell the keys, in a field that is not exported: TestSoundIsTakenAtThePort and
// TestSoundIsSentByThePort fail where a newer Pion has none of that name.
func secrets(pc *webrtc.PeerConnection) *srtp.Config {
	field := reflect.ValueOf(pc.SCTP().Transport()).Elem().FieldByName("conn")
	remote := pc.RemoteDescription()
	if !field.IsValid() || field.Type() != reflect.TypeFor[*dtls.Conn]() || field.IsNil() || remote == nil {
		return nil
	}
	conn := (*dtls.Conn)(field.UnsafePointer())
	state, known := conn.ConnectionState()
	profile, agreed := conn.SelectedSRTPProtectionProfile()
	if !known || !agreed {
		return nil
	}
	cfg := &srtp.Config{Profile: srtp.ProtectionProfile(profile)} // both have IANA's numbers
	if cfg.ExtractSessionKeysFromDTLS(&state, isClient(remote.SDP)) != nil {
		return nil
	}
	return cfg
}

// isClient says whether we are DTLS's client of one who describes himself so (RFC 5763 §5): who leaves it open, and who is open to both,
// is told that we are.
func isClient(remote string) bool {
	_, setup, _ := strings.Cut(remote, "a=setup:")
	return !strings.HasPrefix(setup, "active")
}

// decryption is for what comes; nil: the keys are of no use.
func decryption(keys *srtp.Config) *srtp.Context {
	c, err := srtp.CreateContext(keys.Keys.RemoteMasterKey, keys.Keys.RemoteMasterSalt, keys.Profile, srtp.SRTPReplayProtection(replayWindow))
	if err != nil {
		return nil
	}
	return c
}

// encryption is for what we send; nil: the keys are of no use.
func encryption(keys *srtp.Config) *srtp.Context {
	c, err := srtp.CreateContext(keys.Keys.LocalMasterKey, keys.Keys.LocalMasterSalt, keys.Profile)
	if err != nil {
		return nil
	}
	return c
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
