package load

import (
	"fmt"
	"slices"
	"time"

	"github.com/gotranspile/g722"
	"github.com/hraban/opus"
)

const playout = 80 * time.Millisecond // the jitter buffer of both receivers

// played is what a receiver plays in 20 ms.
type played struct {
	payload []byte // of the packet whose turn it is; nil: it is lost, or late
	next    []byte // of the one after it, if payload is nil and that one is there
}

// playOut is a jitter buffer: it begins 80 ms after the first packet and takes one each 20 ms, in the order of the sequence
// numbers. One that isn't there when a later one is, is lost; if none is there at all, it conceals and waits, and that counts for what
// turns out to have been lost then. What was left out and what was put in by a gateway thus shifts what follows, and does not lose it; a
// buffer of more than ten packets is cut. Where the timestamps say that nothing was sent for a while, that is played as long as it was,
// as receivers do.
func (f *flow) playOut(from time.Duration) []played {
	const ticks, full, far = speechFrames + pieceFrames + 100, 10, 500
	out := make([]played, ticks)
	begin := slices.IndexFunc(f.arrivals, func(a arrival) bool { return a.at >= from })
	if begin < 0 {
		return out
	}
	first := f.arrivals[begin]
	waiting := map[int][]byte{}
	newest, turn := 0, 0            // places in what is played
	last, pauses, waited := 0, 0, 0 // the newest packet's number, the places of pauses before it, and those for which nothing was there
	lastTime := first.timestamp
	arrivals := f.arrivals[begin:]
	for k := range out {
		now := first.at + playout + time.Duration(k)*packetTime
		for len(arrivals) > 0 && arrivals[0].at <= now {
			a := arrivals[0]
			arrivals = arrivals[1:]
			if a.ssrc != first.ssrc {
				continue
			}
			number := last + int(int16(a.sequence-first.sequence-uint16(last)))
			if number == last+1 {
				pause := int(int32(a.timestamp-lastTime))/int(f.step) - 1
				pauses += max(0, min(pause, far)-waited)
			}
			i := number + pauses
			if i < turn || i >= newest+far {
				continue
			}
			if turn > newest && number > last+1 { // what it waited for in vain has been concealed meanwhile
				turn = min(i, turn+waited)
			}
			waiting[i] = f.store[a.from : a.from+a.len]
			newest = max(newest, i)
			if number > last {
				last, lastTime = number, a.timestamp
			}
		}
		for newest-turn > full {
			delete(waiting, turn)
			turn++
		}
		if turn > newest {
			waited++
			continue
		}
		waited = 0
		if out[k].payload = waiting[turn]; out[k].payload == nil {
			out[k].next = waiting[turn+1]
		}
		delete(waiting, turn)
		turn++
	}
	return out
}

// playBrowser is what a browser hears: a packet that is missing comes from the FEC of the next one, or is concealed.
func (f *flow) playBrowser(from time.Duration, rate int) ([]int16, error) {
	dec, err := opus.NewDecoder(rate, 1)
	if err != nil {
		return nil, fmt.Errorf("load: Opus decoder: %w", err)
	}
	packets := f.playOut(from)
	frame := rate / 50
	out := make([]int16, len(packets)*frame)
	for i, p := range packets {
		pcm := out[i*frame : (i+1)*frame : (i+1)*frame] // the decoder makes up as much as there is room for, not as is asked for
		switch {
		case p.payload != nil:
			_, err = dec.Decode(p.payload, pcm)
		case p.next != nil:
			err = dec.DecodeFEC(p.next, pcm)
		default:
			err = dec.DecodePLC(pcm)
		}
		if err != nil {
			clear(pcm)
		}
	}
	return out, nil
}

// playPhone is what a phone hears; it conceals nothing: nothing is lost on the way to it, so a hole is the gateway's.
func (f *flow) playPhone(from time.Duration, codec string) []int16 {
	packets := f.playOut(from)
	if codec == g722Name {
		dec := g722.NewDecoder(g722.Rate64000, 0)
		out := make([]int16, len(packets)*2*frameSamples)
		for i, p := range packets {
			if len(p.payload) == frameSamples {
				dec.Decode(out[i*2*frameSamples:(i+1)*2*frameSamples], p.payload)
			}
		}
		return out
	}
	out := make([]int16, len(packets)*frameSamples)
	for i, p := range packets {
		var frame [frameSamples]int16
		if decodePhone(p.payload, &frame) {
			copy(out[i*frameSamples:], frame[:])
		}
	}
	return out
}
