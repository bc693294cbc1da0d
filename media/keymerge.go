package media

import "time"

const (
	// mergePresses is how many presses are remembered; a method that lags behind by more tells news.
	mergePresses = 8
	// mergeWithin is how long after the last news of a press another method may tell of it; INFO, which proxies carry
	// and retransmit, may take mergeInfo.
	mergeWithin = 300 * time.Millisecond
	mergeInfo   = time.Second
)

// KeyMerge lets each press of a key through once, by whichever methods it is told. The first that tells it tells all of
// it. The same digit again by the same method is another press. It is pure; the zero value is ready.
type KeyMerge struct {
	presses [mergePresses]merged // the newest last
	n       int
	serial  uint32
	telling [keyMethods]uint32 // the press that a method told last; 0: none
}

// merged is a press that was let through.
type merged struct {
	serial uint32
	digit  byte
	by     KeyMethod
	told   [keyMethods]bool
	down   bool // by's end has not come yet
	began  time.Time
	news   time.Time
}

// Key appends k to keys if it is news.
func (m *KeyMerge) Key(keys []Key, k Key, now time.Time) []Key {
	if k.Method >= keyMethods {
		return keys
	}
	if k.Ended {
		p := m.find(m.telling[k.Method])
		m.telling[k.Method] = 0
		if p == nil {
			return keys
		}
		p.news = now
		if p.by == k.Method && p.down {
			p.down = false
			keys = append(keys, k)
		}
		return keys
	}
	for i := range m.presses[:m.n] {
		if p := &m.presses[i]; p.digit == k.Digit && !p.told[k.Method] && p.recent(k.Method, now) {
			p.told[k.Method], p.news = true, now
			m.telling[k.Method] = p.serial
			return keys
		}
	}
	for i := range m.presses[:m.n] {
		if p := &m.presses[i]; p.down { // its end is late: one key at a time
			p.down = false
			keys = append(keys, Key{Digit: p.digit, Ended: true, Duration: now.Sub(p.began), Method: p.by})
		}
	}
	m.add(k, now)
	return append(keys, k)
}

// add remembers a new press, and forgets the oldest.
func (m *KeyMerge) add(k Key, now time.Time) {
	if m.n == mergePresses {
		copy(m.presses[:], m.presses[1:])
		m.n--
	}
	if m.serial++; m.serial == 0 {
		m.serial = 1
	}
	p := merged{serial: m.serial, digit: k.Digit, by: k.Method, down: true, began: now, news: now}
	p.told[k.Method] = true
	m.presses[m.n] = p
	m.n++
	m.telling[k.Method] = p.serial
}

func (m *KeyMerge) find(serial uint32) *merged {
	for i := range m.presses[:m.n] {
		if serial != 0 && m.presses[i].serial == serial {
			return &m.presses[i]
		}
	}
	return nil
}

// recent says whether a method may still tell of the press.
func (p *merged) recent(by KeyMethod, now time.Time) bool {
	within := mergeWithin
	if by == Info || p.told[Info] {
		within = mergeInfo
	}
	return p.down || now.Sub(p.news) <= within
}
