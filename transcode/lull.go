package transcode

// While a phone is silent, browsers are sent what an encoder sends that knows silence (DTX, RFC 7587 §3.1.3): a packet without a
// frame now and then, and nothing between them. It costs neither of them the work of 50 packets a second.

const (
	// silentRMS and silentPeak are what sound may have at most that nobody hears: -65 dBov, which is more than the smallest
	// steps of G.711, and no sample that could be the beginning of something.
	silentRMS  = 18
	silentPeak = 64

	lullAfter = 25 // frames of silence until nothing is sent: half a second
	lullEvery = 20 // frames from one packet without a frame to the next
)

// opusFrame is a frame on the clock of Opus.
const opusFrame = opusClock / 50

// lull is how long a phone has been silent. It belongs to the uplink's lock.
type lull struct {
	frames int // in a row
	packet [1]byte
}

// on says that silence is not sent.
func (l *lull) on() bool { return l.frames > lullAfter }

// due says that it is time for a packet without a frame.
func (l *lull) due() bool { return (l.frames-lullAfter-1)%lullEvery == 0 }

// sent notes the packet after which there may be silence: what is sent then has its table of contents, and says that no frame
// follows (RFC 6716 §3.1, code 0).
func (l *lull) sent(packet []byte) { l.packet[0] = packet[0] &^ 3 }

// silent says whether nobody hears anything in some sound.
func silent(pcm []int16) bool {
	sum := 0
	for _, v := range pcm {
		if v > silentPeak || v < -silentPeak {
			return false
		}
		sum += int(v) * int(v)
	}
	return sum <= len(pcm)*silentRMS*silentRMS
}

// holds says whether a frame of the phone is not to be encoded. Phones have everything: they play what comes as it comes.
func (u *uplink) holds(pcm []int16, ts uint32) bool {
	if !silent(pcm) || u.toPhones() {
		if u.lull.on() {
			u.rouse(len(pcm), ts)
		}
		u.lull.frames = 0
		return false
	}
	if u.lull.frames++; !u.lull.on() {
		return false
	}
	copy(u.held.of(len(pcm)), pcm)
	if u.lull.due() {
		u.publish(ts, u.lull.packet[:])
	}
	return true
}

// rouse begins a word at ts: the silence before it is sent with it. A decoder fades the first frame after those that it was not
// sent in, and it is not to be one of the word.
func (u *uplink) rouse(size int, ts uint32) {
	u.packet.Marker = true
	if ts-u.packet.Timestamp >= 2*opusFrame { // a packet without a frame is not there already
		u.send(u.held.of(size), ts-opusFrame)
	}
}

// toPhones says whether a phone has the packets of the track as they are.
func (u *uplink) toPhones() bool {
	_, coded := u.track.ListenersOf(u.media.Speech)
	for _, s := range coded {
		if _, phone := s.(*input); phone {
			return true
		}
	}
	return false
}
