package transcode

import (
	"time"

	"tandem/media"
)

// toneTimeout ends a key in the sound when no more sound comes.
const toneTimeout = 100 * time.Millisecond

// keysAtOnce is more than a packet brings.
const keysAtOnce = 8

// scratch is where keys are put that are read now.
func (u *uplink) scratch() []media.Key {
	if u.steps == nil {
		u.steps = make([]media.Key, 0, keysAtOnce)
	}
	return u.steps[:0]
}

// tell hands out keys, each press once. u.mu is held.
func (u *uplink) tell(keys []media.Key, at time.Time) {
	if len(keys) == 0 {
		return
	}
	if u.merge == nil {
		u.merge, u.news = new(media.KeyMerge), make([]media.Key, 0, keysAtOnce)
	}
	u.news = u.news[:0]
	for _, k := range keys {
		u.news = u.merge.Key(u.news, k, at)
	}
	for _, k := range u.news {
		if !u.keep.Load() {
			u.source.WriteKey(k)
		}
		if u.onKey != nil {
			u.onKey(k)
		}
	}
}

// expire ends a key whose end was lost.
func (u *uplink) expire(now time.Time) {
	if !u.mu.TryLock() {
		return // a packet is being read: the clock does not wait for it, the next tick is soon enough
	}
	defer u.mu.Unlock()
	if u.closed {
		return
	}
	u.hush(now)
	u.tell(u.keys.Expire(u.steps[:0], now), now)
	if u.tones != nil && u.tones.Down() && now.Sub(u.endAt) > toneTimeout {
		u.tell(u.tones.Reset(u.steps[:0]), now)
	}
}

// press takes a whole key that came beside the sound.
func (u *uplink) press(k media.Key, at time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.closed {
		down := media.Key{Digit: k.Digit, Method: k.Method}
		u.tell(append(u.scratch(), down, k), at)
	}
}

// listen looks for keys in the sound and takes them out of it. gap is how many samples are missing before pcm. It says
// whether it did.
func (u *uplink) listen(pcm []int16, gap int64, at time.Time) (muted bool) {
	if u.tones == nil {
		u.tones = new(media.ToneReader)
	}
	keys := u.scratch()
	if gap > 0 {
		keys = u.tones.Lost(keys, gap)
	}
	keys, mute := u.tones.Sound(keys, u.narrowed)
	if mute {
		clear(pcm)
	}
	u.tell(keys, at)
	return mute
}
