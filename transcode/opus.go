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
