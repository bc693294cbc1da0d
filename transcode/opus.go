package transcode

// opusSamples is how much sound a packet of Opus holds, on its clock of 48 kHz (RFC 6716 §3.1); 0: it is none.
func opusSamples(packet []byte) int {
	if len(packet) == 0 {
		return 0
	}
	var frame int
	switch config := packet[0] >> 3; {
	case config < 12: // SILK: 10, 20, 40, 60 ms
		frame = [...]int{480, 960, 1920, 2880}[config&3]
	case config < 16: // hybrid: 10, 20 ms
		frame = 480 << (config & 1)
	default: // CELT: 2.5, 5, 10, 20 ms
		frame = 120 << (config & 3)
	}
	count := 2
	switch packet[0] & 3 {
	case 0:
		count = 1
	case 3:
		if len(packet) < 2 {
			return 0
		}
		count = int(packet[1] & 0x3f)
	}
	if samples := frame * count; samples <= 5760 {
		return samples
	}
	return 0
}

// opusHasCopy says whether a packet of Opus carries the frame before it once more (LBRR, RFC 6716 §4.2.3 and §4.2.4). Packets of
// several frames of different lengths are not looked into: browsers send none.
func opusHasCopy(packet []byte) bool {
	if len(packet) < 2 || packet[0]&2 != 0 {
		return false
	}
	config := packet[0] >> 3
	if config >= 16 { // CELT has none
		return false
	}
	frames := 1 // of SILK: behind a bit for the voice in each is that for the copy
	if config < 12 {
		frames = max(1, int(config&3))
	}
	if packet[1]>>(7-frames)&1 != 0 {
		return true
	}
	return packet[0]&4 != 0 && packet[1]>>(6-2*frames)&1 != 0 // the same for the side of stereo
}
