package media

import (
	"bytes"
	"crypto/rand"
	"slices"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"

	"tandem/errs"
)

// SRTPKey is the key of one direction.
type SRTPKey struct {
	Suite string // as RFC 4568 and RFC 7714 name it: AES_CM_128_HMAC_SHA1_80, AEAD_AES_256_GCM …
	Key   []byte // master key followed by master salt
}

// The suites, as a=crypto writes them (RFC 4568 §6.2, RFC 7714 §14.1).
const (
	AESCM128HMACSHA180 = "AES_CM_128_HMAC_SHA1_80"
	AESCM128HMACSHA132 = "AES_CM_128_HMAC_SHA1_32"
	AEADAES128GCM      = "AEAD_AES_128_GCM"
	AEADAES256GCM      = "AEAD_AES_256_GCM"
)

const (
	replayWindow = 256 // packets (RFC 3711 §3.3.2 asks for 64 at least)
	// oldKeyTime is how long packets under the key before a re-INVITE are taken: as long as the answer to it may be on
	// its way, with a few retransmissions.
	oldKeyTime = 5 * time.Second
	// maxStreams bounds the SSRCs that are remembered under one key. A far end with more of them begins a new table.
	maxStreams = 32
	// strayRun and strayAgain are how many packets in a row must fail until another rollover counter is tried, and how
	// many more until it is tried again: the far end was not heard for more than half a cycle of sequence numbers.
	strayRun, strayAgain = 3, 25
	// sealing is the most that a suite adds: the tag of GCM, or that of HMAC with the index of SRTCP.
	sealing = 16 + 4
)

// SRTPSuites lists the suites that a port understands, the one to prefer first.
func SRTPSuites() []string {
	return []string{AEADAES256GCM, AEADAES128GCM, AESCM128HMACSHA180, AESCM128HMACSHA132}
}

// srtpProfile is a suite as the library knows it; false: none of SRTPSuites.
func srtpProfile(suite string) (srtp.ProtectionProfile, bool) {
	switch suite {
	case AESCM128HMACSHA180:
		return srtp.ProtectionProfileAes128CmHmacSha1_80, true
	case AESCM128HMACSHA132:
		return srtp.ProtectionProfileAes128CmHmacSha1_32, true
	case AEADAES128GCM:
		return srtp.ProtectionProfileAeadAes128Gcm, true
	case AEADAES256GCM:
		return srtp.ProtectionProfileAeadAes256Gcm, true
	}
	return 0, false
}

// srtpLengths returns how many bytes of key and salt a suite takes.
func srtpLengths(p srtp.ProtectionProfile) (key, salt int) {
	key, _ = p.KeyLen() // every profile of srtpProfile has both
	salt, _ = p.SaltLen()
	return key, salt
}

// NewSRTPKey makes a random key for a suite. The error is errs.Invalid: the suite is none of SRTPSuites.
func NewSRTPKey(suite string) (*SRTPKey, error) {
	profile, ok := srtpProfile(suite)
	if !ok {
		return nil, errs.New(errs.Invalid, "SRTP suite %q is none of %v", suite, SRTPSuites())
	}
	key, salt := srtpLengths(profile)
	k := &SRTPKey{Suite: suite, Key: make([]byte, key+salt)}
	_, _ = rand.Read(k.Key) // crypto/rand never fails
	return k, nil
}

// Validate says whether a port can use the key: errs.Invalid with the suite or the length that is wrong, never the key.
func (k *SRTPKey) Validate() error {
	profile, ok := srtpProfile(k.Suite)
	if !ok {
		return errs.New(errs.Invalid, "SRTP suite %q is none of %v", k.Suite, SRTPSuites())
	}
	if key, salt := srtpLengths(profile); len(k.Key) != key+salt {
		return errs.New(errs.Invalid, "an SRTP key for %s has %d bytes, not %d", k.Suite, key+salt, len(k.Key))
	}
	return nil
}

func (k *SRTPKey) clone() *SRTPKey { return &SRTPKey{Suite: k.Suite, Key: slices.Clone(k.Key)} }

// Equal compares two keys; nil is equal to nil.
func (k *SRTPKey) Equal(other *SRTPKey) bool {
	if k == nil || other == nil {
		return k == other
	}
	return k.Suite == other.Suite && bytes.Equal(k.Key, other.Key)
}

// String hides the key.
func (k *SRTPKey) String() string {
	if k == nil {
		return "none"
	}
	return k.Suite
}

// GoString hides it from %#v.
func (k *SRTPKey) GoString() string { return k.String() }

// context makes what seals or opens packets with the key, for one direction only.
func (k *SRTPKey) context() (*srtp.Context, error) {
	if err := k.Validate(); err != nil {
		return nil, err
	}
	profile, _ := srtpProfile(k.Suite)
	n, _ := srtpLengths(profile)
	return srtp.CreateContext(k.Key[:n], k.Key[n:], profile,
		srtp.SRTPReplayProtection(replayWindow), srtp.SRTCPReplayProtection(replayWindow))
}

// sealer protects what is sent. It belongs to a sender and its lock.
type sealer struct {
	key    *SRTPKey
	ctx    *srtp.Context // nil: the key is of no use, nothing is sent
	header rtp.Header    // scratch
	buf    [12 + maxPayload + sealing]byte
}

// newSealer makes a sealer that goes on where another key left off: neither the rollover counter nor SRTCP's index
// begins anew (RFC 3711 §3.3.1), so that no keystream is used twice when a key comes back.
func newSealer(key *SRTPKey, ssrc, roc, index uint32) *sealer {
	s := &sealer{key: key.clone()}
	ctx, err := key.context()
	if err != nil {
		return s
	}
	ctx.SetROC(ssrc, roc)
	ctx.SetIndex(ssrc, index)
	s.ctx = ctx
	return s
}

// seal returns a packet's protected form, valid until the next call; nil: it can't be sent.
func (s *sealer) seal(packet []byte) []byte {
	if s.ctx == nil {
		return nil
	}
	sealed, err := s.ctx.EncryptRTP(s.buf[:0], packet, &s.header)
	if err != nil {
		return nil
	}
	return sealed
}

// opener opens the packets of one key.
type opener struct {
	key     *SRTPKey
	ctx     *srtp.Context // nil: the key is of no use, nothing is taken
	header  rtp.Header    // scratch
	streams int           // SSRCs in ctx
	last    uint32        // the SSRC that was opened last
	strays  int           // packets in a row that could not be opened

	// The stream under the key before: some far ends carry its rollover counter over, others begin at 0.
	before    uint32
	beforeROC uint32
	carried   bool
}

func newOpener(key *SRTPKey, before *opener) *opener {
	o := &opener{key: key.clone()}
	ctx, err := key.context()
	if err != nil {
		return o
	}
	o.ctx = ctx
	if before != nil && before.ctx != nil {
		o.before = before.last
		o.beforeROC, o.carried = before.ctx.ROC(before.last)
	}
	return o
}

// open puts the plain packet into dst, whose capacity is enough for b; nil: it is not authentic, or was here before.
func (o *opener) open(dst, b []byte) []byte {
	if o.ctx == nil {
		return nil
	}
	ssrc := headerSSRC(b)
	_, known := o.ctx.ROC(ssrc)
	plain, err := o.ctx.DecryptRTP(dst, b, &o.header)
	// Under a wrong rollover counter a packet may seem to be forged, or to be older than the window of replays.
	if err != nil {
		if plain = o.stray(dst, b, ssrc, known); plain == nil {
			return nil
		}
	}
	o.strays, o.last = 0, ssrc
	if !known && err == nil {
		o.remember(ssrc)
	}
	return plain
}

// stray looks for the rollover counter of a stream that can't be opened. Only later ones are tried: an earlier one would
// let packets be played again.
func (o *opener) stray(dst, b []byte, ssrc uint32, known bool) []byte {
	o.strays++
	first := o.strays == 1 && !known && o.carried && ssrc == o.before
	if !first && (o.strays < strayRun || (o.strays-strayRun)%strayAgain != 0) {
		return nil
	}
	var next uint32
	switch roc, _ := o.ctx.ROC(ssrc); {
	case known:
		next = roc + 1
	case o.carried && ssrc == o.before:
		next = o.beforeROC
	default:
		return nil
	}
	for _, roc := range []uint32{next, next + 1} {
		ctx, err := o.key.context()
		if err != nil {
			return nil
		}
		ctx.SetROC(ssrc, roc)
		if plain, err := ctx.DecryptRTP(dst, b, &o.header); err == nil {
			o.ctx, o.streams = ctx, 1
			return plain
		}
	}
	return nil
}

// remember counts a new stream and keeps the table small.
func (o *opener) remember(ssrc uint32) {
	if o.streams++; o.streams <= maxStreams {
		return
	}
	roc, _ := o.ctx.ROC(ssrc)
	if ctx, err := o.key.context(); err == nil {
		ctx.SetROC(ssrc, roc)
		o.ctx, o.streams = ctx, 1
	}
}

// opening opens what comes, across changes of the key.
type opening struct {
	now, old *opener
	until    time.Time // of old
	plain    [maxDatagram]byte
	report   [maxDatagram]byte
	header   rtcp.Header // scratch
}

// use makes key the one that packets come under. A key that is the same, or comes back, keeps its streams' counters.
func (p *opening) use(key *SRTPKey, now time.Time) {
	switch {
	case p.now != nil && p.now.key.Equal(key):
	case p.now == nil:
		p.now = newOpener(key, nil)
	case p.old != nil && p.old.key.Equal(key):
		p.now, p.old, p.until = p.old, p.now, now.Add(oldKeyTime)
	default:
		p.now, p.old, p.until = newOpener(key, p.now), p.now, now.Add(oldKeyTime)
	}
}

// rtp returns the plain form of a packet with a whole header, valid until the next call; nil: it is not authentic.
func (p *opening) rtp(b []byte, now time.Time) []byte {
	plain := p.now.open(p.plain[:0], b)
	if plain == nil && p.old != nil && now.Before(p.until) {
		if plain = p.old.open(p.plain[:0], b); plain != nil {
			p.now.strays = 0
		}
	}
	return plain
}

// rtcp returns the plain form of a compound packet.
func (p *opening) rtcp(b []byte, now time.Time) []byte {
	for _, o := range []*opener{p.now, p.old} {
		if o == nil || o.ctx == nil || o == p.old && !now.Before(p.until) {
			continue
		}
		if plain, err := o.ctx.DecryptRTCP(p.report[:0], b, &p.header); err == nil {
			return plain
		}
	}
	return nil
}
