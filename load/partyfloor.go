package load

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/hraban/opus"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
	"github.com/zaf/g711"
)

// PartyFloorConfig is how the floor of a party is run.
type PartyFloorConfig struct {
	HTTP      string // address of /readyz and /offer
	FirstPort int    // of the phones
}

// partyFloor is the least code that does the work of such a session. It knows who speaks, and what the others send it drops
// as it comes. What a speaker says is decoded once; it goes to the browsers as Opus, that of a browser as it came and that of a phone
// encoded once for all; for the phones the voices are added once each 20 ms and encoded once, and once more for each phone that
// speaks, without its own. It has no buffer, no RTCP, no concealment, no signalling but one offer and answer for each browser, and
// one connection for each.
type partyFloor struct {
	phones [partyPairs]*floorPhone
	tracks []*webrtc.TrackLocalStaticRTP // of those who speak, phones first

	mu   sync.Mutex            // guards said
	said [][frameSamples]int16 // the last frame of each voice
}

// floorPhone is a socket.
type floorPhone struct {
	conn   *net.UDPConn
	mu     sync.Mutex
	remote netip.AddrPort
	header rtp.Header // the mixer's
	packet [12 + frameSamples]byte
}

// ServePartyFloor is that until ctx ends.
func ServePartyFloor(ctx context.Context, cfg PartyFloorConfig) error {
	f := &partyFloor{said: make([][frameSamples]int16, len(talkTones()))}
	peers, err := newBarePeers()
	if err != nil {
		return err
	}
	work := newFloorWork()
	defer work.end()
	defer peers.close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for i := range talkTones() {
		t, err := webrtc.NewTrackLocalStaticRTP(opusCodec().RTPCodecCapability, "audio", "voice"+strconv.Itoa(i))
		if err != nil {
			return fmt.Errorf("load: floor: %w", err)
		}
		f.tracks = append(f.tracks, t)
	}
	for k := range f.phones {
		conn, err := work.listen(cfg.FirstPort + k)
		if err != nil {
			return err
		}
		f.phones[k] = &floorPhone{conn: conn, header: rtp.Header{Version: 2, SSRC: rand.Uint32()}}
		work.run(func() error { return f.readPhone(k) })
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/readyz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/offer", peers.offer(func(number int, pc *webrtc.PeerConnection) error { return f.admit(work, number, pc) }))
	work.run(func() error { return f.mix(ctx) })
	return work.serve(ctx, cfg.HTTP, mux)
}

// admit lets a browser in.
func (f *partyFloor) admit(work *floorWork, number int, pc *webrtc.PeerConnection) error {
	voice := -1 // which one it is
	if number < partyBrowsers {
		voice = partyPhones + number
	}
	pc.OnTrack(func(t *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		work.run(func() error {
			_ = f.readBrowser(t, voice) // it ends with its connection
			return nil
		})
	})
	for i, t := range f.tracks {
		if i == voice {
			continue
		}
		if _, err := pc.AddTrack(t); err != nil {
			return fmt.Errorf("load: floor: %w", err)
		}
	}
	return nil
}

// readPhone takes what a phone sends.
func (f *partyFloor) readPhone(k int) error {
	p := f.phones[k]
	var buf, coded [1500]byte
	var pcm [frameSamples]int16
	var packet rtp.Packet
	var voice *floorVoice
	if k < partyPhones {
		var err error
		if voice, err = newFloorVoice(gatewayComplexity); err != nil {
			return err
		}
	}
	for {
		n, addr, err := p.conn.ReadFromUDPAddrPort(buf[:])
		if err != nil {
			return err
		}
		if p.remote != addr { // this goroutine alone writes it
			p.mu.Lock()
			p.remote = addr
			p.mu.Unlock()
		}
		if voice == nil || packet.Unmarshal(buf[:n]) != nil || len(packet.Payload) != frameSamples {
			continue
		}
		for i, b := range packet.Payload {
			pcm[i] = g711.DecodeUlawFrame(b)
		}
		f.say(k, &pcm)
		size, err := voice.encode(pcm[:], coded[:])
		if err != nil {
			return err
		}
		packet.Timestamp *= opusStep / frameSamples
		packet.Payload = coded[:size]
		_ = f.tracks[k].WriteRTP(&packet) // a connection that is gone has its own end
	}
}

// readBrowser takes what a browser sends; voice is -1 of one that says nothing.
func (f *partyFloor) readBrowser(t *webrtc.TrackRemote, voice int) error {
	var buf [1500]byte
	var pcm [frameSamples]int16
	var packet rtp.Packet
	dec, err := opus.NewDecoder(phoneRate, 1)
	if err != nil {
		return err
	}
	for {
		n, _, err := t.Read(buf[:])
		if err != nil {
			return err
		}
		if voice < 0 || packet.Unmarshal(buf[:n]) != nil {
			continue
		}
		packet.Extension, packet.Extensions = false, nil
		_ = f.tracks[voice].WriteRTP(&packet) // a connection that is gone has its own end
		if samples, err := dec.Decode(packet.Payload, pcm[:]); err == nil && samples == frameSamples {
			f.say(voice, &pcm)
		}
	}
}

func (f *partyFloor) say(voice int, pcm *[frameSamples]int16) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.said[voice] = *pcm
}

// mix sends the phones what they hear, each 20 ms.
func (f *partyFloor) mix(ctx context.Context) error {
	tick := time.NewTicker(packetTime)
	defer tick.Stop()
	var all, one [frameSamples]byte
	var sum [frameSamples]int32
	said := make([][frameSamples]int16, len(f.said))
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		f.mu.Lock()
		copy(said, f.said)
		f.mu.Unlock()
		clear(sum[:])
		for i := range said {
			for n, v := range said[i] {
				sum[n] += int32(v)
			}
		}
		for n, v := range sum {
			all[n] = g711.EncodeUlawFrame(saturated(v))
		}
		for k, p := range f.phones {
			payload := &all
			if k < partyPhones {
				payload = &one
				for n, own := range &said[k] {
					one[n] = g711.EncodeUlawFrame(saturated(sum[n] - int32(own)))
				}
			}
			p.send(payload[:])
		}
	}
}

func saturated(v int32) int16 { return int16(max(math.MinInt16, min(math.MaxInt16, v))) }

// send is the mixer's.
func (p *floorPhone) send(payload []byte) {
	p.mu.Lock()
	remote := p.remote
	p.mu.Unlock()
	if !remote.IsValid() {
		return
	}
	if n, err := p.header.MarshalTo(p.packet[:]); err == nil {
		n += copy(p.packet[n:], payload)
		_, _ = p.conn.WriteToUDPAddrPort(p.packet[:n], remote)
	}
	p.header.SequenceNumber++
	p.header.Timestamp += frameSamples
}

// startPartyFloor starts it as b.child: program is how this program is called.
func (b *bench) startPartyFloor(ctx context.Context, dir string, program []string) error {
	port, err := freePort(ctx)
	if err != nil {
		return err
	}
	addr := "127.0.0.1:" + strconv.Itoa(port)
	first := floorFirstPort + partyPairs*rand.IntN(100)
	argv := append(pinned(b.cfg.Pinned), program...)
	argv = append(argv, "bench", "party-floor", "--http="+addr, "--first-port="+strconv.Itoa(first))
	if b.child, err = startChild(ctx, argv, "http://"+addr, filepath.Join(dir, "floor.log")); err != nil {
		return err
	}
	b.connect = joinPartyFloor("http://"+addr, first)
	return nil
}

// joinPartyFloor lets pairs in.
func joinPartyFloor(base string, first int) func(context.Context, *pair, *peerEnd) error {
	return func(ctx context.Context, c *pair, far *peerEnd) error {
		toPhone := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(first+c.number))
		c.phone.remote.Store(&toPhone)
		for range len(talkTones()) - 1 {
			_, err := far.pc.AddTransceiverFromKind(webrtc.RTPCodecTypeAudio, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly})
			if err != nil {
				return fmt.Errorf("load: transceiver: %w", err)
			}
		}
		return far.joinBare(ctx, base, c.number)
	}
}
