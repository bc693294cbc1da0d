package sip

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"
	"github.com/stretchr/testify/require"

	"tandem/media"
	"tandem/trunks"
)

var there = here // both ends of a negotiation show an address of their own; which one matters nowhere

// negotiation is two descriptions that talk with each other.
type negotiation struct {
	t    *testing.T
	a, b *description
}

func negotiate(t *testing.T, a, b terms) *negotiation {
	t.Helper()
	if a.codecs == nil {
		a.codecs = codecsOf(nil)
	}
	if b.codecs == nil {
		b.codecs = codecsOf(nil)
	}
	return &negotiation{t, newDescription(1, here, a), newDescription(2, there, b)}
}

// run lets from make an offer and the other one answer it. It checks that both agree, in mirror.
func (n *negotiation) run(from *description, offer []byte, err error) (offered, answered media.PortMedia) {
	n.t.Helper()
	require.NoError(n.t, err)
	to := n.a
	if from == n.a {
		to = n.b
	}
	answer, answered, err := to.answer(offer)
	require.NoError(n.t, err, "%s", offer)
	offered, err = from.accept(answer)
	require.NoError(n.t, err, "%s", answer)
	require.Equal(n.t, offered.Speech, answered.Speech)
	require.Equal(n.t, offered.Audio(), answered.Audio())
	require.Equal(n.t, offered.EventType, answered.EventType)
	require.Equal(n.t, offered.Send, answered.Receive)
	require.Equal(n.t, offered.Receive, answered.Send)
	require.True(n.t, offered.Inbound.Equal(answered.Outbound), "a key has two ends")
	require.True(n.t, offered.Outbound.Equal(answered.Inbound), "a key has two ends")
	return offered, answered
}

func (n *negotiation) start() (offered, answered media.PortMedia) {
	n.t.Helper()
	offer, err := n.a.offer()
	return n.run(n.a, offer, err)
}

func srtpTerms(mode string) terms { return terms{srtp: mode} }

// What comes of each pair of trunks' wishes: plain, SRTP, or 488.
func TestSRTPOfTwoTrunks(t *testing.T) {
	off, optional, required := trunks.SRTPOff, trunks.SRTPOptional, trunks.SRTPRequired
	for _, c := range []struct {
		offerer, answerer, want string
	}{
		{off, off, "plain"},
		{off, optional, "plain"},
		{off, required, "488"},
		{optional, off, "plain"},
		{optional, optional, "SRTP"},
		{optional, required, "SRTP"},
		{required, off, "488"},
		{required, optional, "SRTP"},
		{required, required, "SRTP"},
	} {
		t.Run(c.offerer+" to "+c.answerer, func(t *testing.T) {
			n := negotiate(t, srtpTerms(c.offerer), srtpTerms(c.answerer))
			if c.want == "488" {
				offer, err := n.a.offer()
				require.NoError(t, err)
				_, _, err = n.b.answer(offer)
				require.ErrorIs(t, err, errNothingCommon)
				require.Equal(t, 488, offerStatus(err))
				return
			}
			_, answered := n.start()
			require.Equal(t, c.want == "SRTP", answered.Inbound != nil)
			require.Equal(t, c.want == "SRTP", answered.Outbound != nil)
			if c.want == "SRTP" {
				require.Equal(t, media.SRTPSuites()[0], answered.Inbound.Suite, "the first that both know")
				require.False(t, answered.Inbound.Equal(answered.Outbound))
			}
		})
	}
}

// A peer may know one suite only, in either profile.
func TestSRTPSuites(t *testing.T) {
	for _, suite := range media.SRTPSuites() {
		key, err := media.NewSRTPKey(suite)
		require.NoError(t, err)
		for _, profile := range []string{plainProfile, secureProfile} {
			d := newDescription(1, here, terms{codecs: codecsOf(nil), srtp: trunks.SRTPRequired})
			offer := "v=0\r\nc=IN IP4 198.51.100.7\r\nm=audio 4000 " + profile + " 0\r\na=crypto:1 F8_128_HMAC_SHA1_80 inline:" +
				base64.StdEncoding.EncodeToString(make([]byte, 30)) + "\r\na=crypto:7 " + suite + " inline:" +
				base64.StdEncoding.EncodeToString(key.Key) + "|2^31\r\n"
			answer, agreed, err := d.answer([]byte(offer))
			require.NoError(t, err)
			require.True(t, key.Equal(agreed.Inbound))
			require.Equal(t, suite, agreed.Outbound.Suite)
			require.Contains(t, string(answer), "m=audio 20000 "+profile+" 0\r\n")
			require.Contains(t, string(answer), "a=crypto:7 "+suite+" inline:"+base64.StdEncoding.EncodeToString(agreed.Outbound.Key)+"\r\n")
			require.Equal(t, 1, strings.Count(string(answer), "a=crypto:"))
		}
	}
}

func TestSRTPNeverGoesPlain(t *testing.T) {
	const head = "v=0\r\nc=IN IP4 198.51.100.7\r\nt=0 0\r\n"
	d := newDescription(1, here, terms{codecs: codecsOf(nil), srtp: trunks.SRTPRequired})
	offer := string(offerOf(t, d))
	require.Contains(t, offer, "m=audio 20000 RTP/SAVP 0 8 9 107 13 101\r\n")
	require.Equal(t, len(media.SRTPSuites()), strings.Count(offer, "a=crypto:"))
	stranger := "inline:" + base64.StdEncoding.EncodeToString(make([]byte, 30))
	for name, answer := range map[string]string{
		"plain":                       "m=audio 4000 RTP/AVP 0\r\n",
		"no key":                      "m=audio 4000 RTP/SAVP 0\r\n",
		"a proposal that nobody made": "m=audio 4000 RTP/SAVP 0\r\na=crypto:9 AES_CM_128_HMAC_SHA1_80 " + stranger + "\r\n",
		"another suite":               "m=audio 4000 RTP/SAVP 0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 " + stranger + "\r\n",
	} {
		_, err := d.clone().accept([]byte(head + answer))
		require.ErrorIs(t, err, errNothingCommon, name)
	}
	_, err := d.accept([]byte(head + "m=audio 4000 RTP/SAVP 0\r\na=crypto:3 AES_CM_128_HMAC_SHA1_80 " + stranger + "\r\n"))
	require.NoError(t, err)
}

// A hold keeps the keys, so that neither end's packet index begins anew; an end that brings another key gets another.
func TestSRTPKeysOverReoffers(t *testing.T) {
	n := negotiate(t, srtpTerms(trunks.SRTPRequired), srtpTerms(trunks.SRTPRequired))
	first, _ := n.start()
	offer, err := n.b.holding(true)
	held, _ := n.run(n.b, offer, err)
	require.True(t, first.Inbound.Equal(held.Outbound) && first.Outbound.Equal(held.Inbound))
	offer, err = n.b.holding(false)
	_, _ = n.run(n.b, offer, err)
	offer, err = n.a.refresh()
	again, _ := n.run(n.a, offer, err)
	require.True(t, first.Equal(again))

	offer, err = n.a.offer() // as to an INVITE without one
	fresh, _ := n.run(n.a, offer, err)
	require.False(t, first.Outbound.Equal(fresh.Outbound))
	require.False(t, first.Inbound.Equal(fresh.Inbound))
}

// Each pair of holds, of both ends.
func TestHoldsOfTwoEnds(t *testing.T) {
	n := negotiate(t, terms{}, terms{})
	n.start()
	for _, c := range []struct {
		name         string
		end          *description
		on           bool
		direction    string // of the offer
		aSend, bSend bool
		aHeld, bHeld bool // by the other end
	}{
		{"a holds", n.a, true, "sendonly", true, false, false, true},
		{"b holds too", n.b, true, "inactive", false, false, true, true},
		{"a resumes", n.a, false, "sendrecv", false, true, true, false},
		{"b resumes", n.b, false, "sendrecv", true, true, false, false},
		{"b holds", n.b, true, "sendonly", false, true, true, false},
		{"b resumes again", n.b, false, "sendrecv", true, true, false, false},
	} {
		offer, err := c.end.holding(c.on)
		require.NoError(t, err)
		require.Contains(t, string(offer), "a="+c.direction+"\r\n", c.name)
		offered, answered := n.run(c.end, offer, nil)
		a, b := offered, answered
		if c.end == n.b {
			a, b = answered, offered
		}
		require.Equal(t, c.aSend, a.Send, c.name)
		require.Equal(t, c.bSend, b.Send, c.name)
		require.Equal(t, c.aHeld, n.a.farHold, "%s: a is held", c.name)
		require.Equal(t, c.bHeld, n.b.farHold, "%s: b is held", c.name)
	}
	offer, err := n.b.holding(true)
	n.run(n.b, offer, err)
	offer, err = n.b.offer() // to an INVITE without one: who is held stays held
	require.Contains(t, string(offer), "a=sendonly\r\n")
	n.run(n.b, offer, err)
	require.True(t, n.a.farHold)
}

// The version counts changes, and only those (RFC 3264 §8).
func TestVersionOfADescription(t *testing.T) {
	n := negotiate(t, terms{}, terms{})
	version := func(sdp []byte) string {
		_, after, _ := strings.Cut(string(sdp), "o=tandem 1 ")
		v, _, _ := strings.Cut(after, " ")
		return v
	}
	offer, err := n.a.offer()
	require.Equal(t, "2", version(offer))
	n.run(n.a, offer, err)
	for range 2 {
		offer, err = n.a.refresh()
		require.Equal(t, "2", version(offer), "a refresh is no change")
		n.run(n.a, offer, err)
	}
	offer, err = n.a.holding(true)
	require.NoError(t, err)
	require.Equal(t, "3", version(offer))
	n.a.refused()
	require.False(t, n.a.hold, "what was refused is not so")
	offer, err = n.a.refresh()
	require.Equal(t, "4", version(offer), "the refused one counts")
	require.Contains(t, string(offer), "a=sendrecv\r\n")
	n.run(n.a, offer, err)
	theirs, err := n.b.refresh()
	require.NoError(t, err)
	answer, _, err := n.a.answer(theirs)
	require.NoError(t, err)
	_, err = n.b.accept(answer)
	require.NoError(t, err)
	again, _, err := n.a.answer(theirs)
	require.NoError(t, err)
	require.Equal(t, version(answer), version(again), "the same answer to the same offer")
}

// Offers cross: each end refuses the other's while its own is open, and nothing changes.
func TestOffersCross(t *testing.T) {
	n := negotiate(t, terms{}, terms{})
	before, _ := n.start()
	ours, err := n.a.holding(true)
	require.NoError(t, err)
	theirs, err := n.b.holding(true)
	require.NoError(t, err)
	_, _, err = n.a.answer(theirs)
	require.Equal(t, 491, offerStatus(err))
	_, _, err = n.b.answer(ours)
	require.Equal(t, 491, offerStatus(err))
	_, err = n.a.offer()
	require.ErrorIs(t, err, errGlare)
	_, err = n.a.refresh()
	require.ErrorIs(t, err, errGlare)
	n.a.refused()
	n.b.refused()
	require.True(t, before.Equal(n.a.agreed))
	offer, err := n.a.holding(true)
	n.run(n.a, offer, err)
	require.True(t, n.b.farHold)
}

func TestAnswerWithoutAnOffer(t *testing.T) {
	n := negotiate(t, terms{}, terms{})
	_, err := n.a.accept(offerOf(t, n.b))
	require.ErrorIs(t, err, errNoOffer)
	offer, err := n.b.clone().refresh()
	require.Error(t, err, "%s", offer)
}

// A payload type never means another thing later (RFC 3264 §8.3.2).
func TestPayloadTypesKeepTheirMeaning(t *testing.T) {
	d := newDescription(1, here, termsOf(nil))
	_, agreed, err := d.answer([]byte("v=0\r\nc=IN IP4 198.51.100.7\r\nm=audio 4000 RTP/AVP 97 101\r\na=rtpmap:97 PCMA/8000\r\na=rtpmap:101 iLBC/8000\r\n"))
	require.NoError(t, err)
	require.Equal(t, uint8(97), agreed.Audio())
	require.Equal(t, -1, agreed.EventType)
	offer := string(offerOf(t, d))
	require.Contains(t, offer, "m=audio 20000 RTP/AVP 97 0 9 107 13 100\r\na=rtpmap:97 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:9 G722/8000\r\n"+
		"a=rtpmap:107 opus/48000/2\r\na=fmtp:107 useinbandfec=1\r\na=rtpmap:13 CN/8000\r\na=rtpmap:100 telephone-event/8000\r\n")
	got, err := d.accept([]byte("v=0\r\nc=IN IP4 198.51.100.7\r\nm=audio 4000 RTP/AVP 98 96\r\na=rtpmap:98 PCMA/8000\r\na=rtpmap:96 telephone-event/8000\r\n"))
	require.NoError(t, err)
	require.True(t, got.Audio() == 98 && got.IsAudio(97), "it is sent as it answered and may come as we offered")
	require.True(t, got.EventType == 96 && got.IsEvent(100))
}

// Keys by SIP INFO leave no telephone-event beside them.
func TestTermsOfATrunk(t *testing.T) {
	got := termsOf(&trunk{Trunk: Trunk{DTMF: trunks.DTMFInfo, DTMFInBand: true, SRTP: trunks.SRTPOff, Codecs: []string{"PCMA"}}})
	d := newDescription(1, here, got)
	require.Contains(t, string(offerOf(t, d)), "m=audio 20000 RTP/AVP 8 13\r\n")
	agreed, err := d.accept([]byte("v=0\r\nc=IN IP4 198.51.100.7\r\nm=audio 4000 RTP/AVP 8 101\r\na=rtpmap:101 telephone-event/8000\r\n"))
	require.NoError(t, err)
	require.Equal(t, -1, agreed.EventType)
	require.True(t, agreed.KeysByInfo && agreed.InBand)
}

func TestCrypto(t *testing.T) {
	key := base64.StdEncoding.EncodeToString(make([]byte, 30))
	for _, c := range []struct {
		name, value string
		ok          bool
	}{
		{"plain", "1 AES_CM_128_HMAC_SHA1_80 inline:" + key, true},
		{"lower case", "1 aes_cm_128_hmac_sha1_32 INLINE:" + key, true},
		{"lifetime", "1 AES_CM_128_HMAC_SHA1_80 inline:" + key + "|2^20", true},
		{"lifetime as a number", "1 AES_CM_128_HMAC_SHA1_80 inline:" + key + "|1048576", true},
		{"a window", "1 AES_CM_128_HMAC_SHA1_80 inline:" + key + " WSH=128", true},
		{"a master key index", "1 AES_CM_128_HMAC_SHA1_80 inline:" + key + "|2^20|1:4", false},
		{"two keys", "1 AES_CM_128_HMAC_SHA1_80 inline:" + key + "|2^20|1:4;inline:" + key + "|2^20|2:4", false},
		{"a lifetime that is none", "1 AES_CM_128_HMAC_SHA1_80 inline:" + key + "|2^99", false},
		{"key derivation", "1 AES_CM_128_HMAC_SHA1_80 inline:" + key + " KDR=1", false},
		{"in the clear", "1 AES_CM_128_HMAC_SHA1_80 inline:" + key + " UNENCRYPTED_SRTP", false},
		{"not authenticated", "1 AES_CM_128_HMAC_SHA1_80 inline:" + key + " UNAUTHENTICATED_SRTP", false},
		{"a short key", "1 AES_CM_128_HMAC_SHA1_80 inline:" + key[:36], false},
		{"a key of another suite", "1 AEAD_AES_256_GCM inline:" + key, false},
		{"no base64", "1 AES_CM_128_HMAC_SHA1_80 inline:%%%", false},
		{"no tag", "x AES_CM_128_HMAC_SHA1_80 inline:" + key, false},
		{"ten digits", "1234567890 AES_CM_128_HMAC_SHA1_80 inline:" + key, false},
		{"another method", "1 AES_CM_128_HMAC_SHA1_80 url:" + key, false},
		{"no key", "1 AES_CM_128_HMAC_SHA1_80", false},
		{"nothing", "", false},
	} {
		got, err := parseCrypto(c.value)
		require.Equal(t, c.ok, err == nil, "%s: %v", c.name, err)
		if err != nil {
			require.NotContains(t, err.Error(), key, "a key is never shown")
			continue
		}
		again, err := parseCrypto(got.value())
		require.NoError(t, err)
		require.Equal(t, got, again)
	}
}

// FuzzCrypto checks that what is read can be written and read again, and that nothing panics.
func FuzzCrypto(f *testing.F) {
	f.Add("1 AES_CM_128_HMAC_SHA1_80 inline:" + base64.StdEncoding.EncodeToString(make([]byte, 30)) + "|2^20|1:4 WSH=64")
	f.Fuzz(func(t *testing.T, value string) {
		got, err := parseCrypto(value)
		if err != nil {
			return
		}
		require.NoError(t, got.key.Validate())
		again, err := parseCrypto(got.value())
		require.NoError(t, err)
		require.Equal(t, got, again)
	})
}

// FuzzSecureSDP checks what must hold for whatever a peer offers to a trunk of SRTP: no panic, and never plain.
func FuzzSecureSDP(f *testing.F) {
	f.Add("v=0\r\nc=IN IP4 198.51.100.7\r\nm=audio 4000 RTP/SAVP 0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" +
		base64.StdEncoding.EncodeToString(make([]byte, 30)) + "\r\nm=audio 4002 RTP/AVP 0\r\n")
	f.Fuzz(func(t *testing.T, offer string) {
		d := newDescription(7, here, terms{codecs: codecsOf(nil), srtp: trunks.SRTPRequired})
		answer, agreed, err := d.answer([]byte(offer))
		if err != nil {
			return
		}
		require.NotNil(t, agreed.Inbound)
		require.NotNil(t, agreed.Outbound)
		require.Contains(t, string(answer), "a=crypto:")
	})
}

func TestSessionExpires(t *testing.T) {
	for value, want := range map[string]string{
		"1800":                     "1800",
		" 90 ; refresher=uac":      "90;refresher=uac",
		"90;x=y;REFRESHER=UAS":     "90;refresher=uas",
		"90;refresher=me":          "90",
		"4294967295;refresher=uac": "2592000;refresher=uac",
	} {
		got, err := parseSessionExpires(value)
		require.NoError(t, err, value)
		require.Equal(t, want, got.String())
	}
	for _, value := range []string{"", "0", "-1", "x", "99999999999", ";refresher=uac"} {
		_, err := parseSessionExpires(value)
		require.Error(t, err, value)
	}
}

// Who refreshes, by what the far end asks for and can do (RFC 4028 §9, table 2).
func TestRefresher(t *testing.T) {
	for _, c := range []struct {
		headers  string
		expires  string // in our 2xx; empty: there is no timer
		required bool
	}{
		{"", "", false},
		{"Supported: timer\r\n", "1800;refresher=uas", false},
		{"Session-Expires: 600\r\n", "600;refresher=uas", false}, // a proxy asks for it, and the caller does not know it
		{"Session-Expires: 600;refresher=uac\r\n", "600;refresher=uas", false},
		{"Supported: timer\r\nSession-Expires: 600\r\n", "600;refresher=uac", true},
		{"Supported: timer\r\nSession-Expires: 600;refresher=uac\r\n", "600;refresher=uac", true},
		{"Supported: timer\r\nSession-Expires: 600;refresher=uas\r\n", "600;refresher=uas", false},
		{"Require: timer\r\nSession-Expires: 600;refresher=uac\r\n", "600;refresher=uac", true},
		{"k: timer\r\nx: 7200;refresher=uas\r\n", "1800;refresher=uas", false},
		{"Supported: timer\r\nSession-Expires: 600\r\nMin-SE: 900\r\n", "900;refresher=uac", true},
	} {
		req := parsed[*sip.Request](t, "INVITE sip:a@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKb\r\nFrom: <sip:b@x>;tag=1\r\n"+
			"To: <sip:a@x>\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\n"+c.headers+"Content-Length: 0\r\n\r\n")
		timer := sessionTimer{wanted: defaultSessionExpires, least: minSessionExpires}
		got := map[string]string{}
		for _, h := range timer.answer(req) {
			got[h.Name()] = h.Value()
		}
		require.Equal(t, c.expires, got["Session-Expires"], c.headers)
		require.Equal(t, c.required, got["Require"] == "timer", c.headers)
		require.Equal(t, !strings.HasSuffix(c.expires, "=uac"), timer.ours, c.headers)
		require.Equal(t, c.expires == "", timer.alone, c.headers)
		require.NotZero(t, timer.interval, c.headers)
	}
}

// A 2xx that is not acknowledged comes again ever later, but no later than T2 (RFC 3261 §13.3.1.4).
func TestRepetitionsOfA2xx(t *testing.T) {
	sent := 0
	c := &call{unacked: &unacked{interval: sip.T1, again: time.NewTimer(time.Hour), send: func() error { sent++; return nil }}}
	defer c.unacked.again.Stop()
	var waits []time.Duration
	for range 5 {
		c.repeat()
		waits = append(waits, c.unacked.interval)
	}
	require.Equal(t, []time.Duration{2 * sip.T1, 4 * sip.T1, 8 * sip.T1, sip.T2, sip.T2}, waits)
	require.Equal(t, 5, sent)
}

// FuzzSessionExpires checks that what is read says the same when it is written.
func FuzzSessionExpires(f *testing.F) {
	f.Add("1800;refresher=uac")
	f.Fuzz(func(t *testing.T, value string) {
		got, err := parseSessionExpires(value)
		if err != nil {
			return
		}
		require.Positive(t, got.interval)
		again, err := parseSessionExpires(got.String())
		require.NoError(t, err)
		require.Equal(t, got, again)
	})
}

// FuzzInfoKey checks that no body of an INFO makes anything but a key.
func FuzzInfoKey(f *testing.F) {
	f.Add(relayType, "Signal= 5\r\nDuration=160\r\n")
	f.Add(keyType, "#")
	f.Fuzz(func(t *testing.T, kind, body string) {
		key, err := parseKey(kind, body)
		if err != nil {
			return
		}
		require.True(t, key.Ended)
		require.LessOrEqual(t, key.Duration, longestKey)
		if key.Digit != 0 {
			require.Contains(t, keys, string(rune(key.Digit)))
		}
	})
}

func TestInfoKeys(t *testing.T) {
	for _, c := range []struct {
		kind, body string
		digit      byte
		ok         bool
	}{
		{relayType, "Signal=5\r\nDuration=160\r\n", '5', true},
		{relayType, "signal= *\nduration= 100", '*', true},
		{relayType, "Signal=10", '*', true},
		{relayType, "Signal=11", '#', true},
		{relayType, "Signal=d", 'D', true},
		{relayType, "Signal=16", 0, true}, // a hook flash
		{relayType, "Signal=!", 0, true},
		{relayType, "Signal=17", 0, false},
		{relayType, "Signal=", 0, false},
		{relayType, "5", 0, false},
		{relayType, "Signal=5\r\nDuration=-1", 0, false},
		{keyType, "5", '5', true},
		{keyType, "Signal=7\r\nDuration=80", '7', true},
		{keyType, "E", 0, false},
		{keyType, "", 0, false},
	} {
		key, err := parseKey(c.kind, c.body)
		require.Equal(t, c.ok, err == nil, "%q: %v", c.body, err)
		require.Equal(t, c.digit, key.Digit, "%q", c.body)
	}
}
