package transcode

import "tandem/media"

// machineEars listens whether a machine answered.
type machineEars struct {
	reader media.MachineReader
	tell   func(media.Answerer)
}

// hear takes the next samples, and how many are missing before them. False: there is nothing more to find.
func (m *machineEars) hear(pcm []int16, gap int64) bool {
	if gap > 0 {
		if found, ok := m.reader.Lost(gap); ok {
			m.tell(found)
		}
	}
	if found, ok := m.reader.Sound(pcm); ok {
		m.tell(found)
	}
	return !m.reader.Done()
}

// DetectMachine listens from now on, which should be the answer, whether a person or a machine answered, and whether
// the machine's beep came. Tell runs where packets are read: it must not block and must not call the bridge. A phone that
// sends nothing is not judged.
func (b *Bridge) DetectMachine(tell func(media.Answerer)) {
	b.up.mu.Lock()
	defer b.up.mu.Unlock()
	b.up.ears = &machineEars{tell: tell}
}
