package load

// livekit/sip with its server is no Debian package, and its module can't be had from the Go module proxy, so it is not
// run here: these are its figures as they were measured on another machine of the same kind, two shared cores, before this
// comparison was made (2026-11), with the same work, PCMU to Opus. Of each range the end that is better for it counts.
const (
	liveKitWhere    = "livekit/sip, measured elsewhere in 2026-11, not in this run"
	liveKitCPU      = 57.0       // to 63 ms of CPU per call-second
	liveKitMemory   = 8.0 * 1024 // to 9216 KiB a call
	liveKitToPhone  = 125.0      // to 147 ms from a sound at the browser to it at the phone
	liveKitFromThem = 68.0       // ms, the other way

	mostOfLiveKitCPU    = 0.2
	mostOfLiveKitDelay  = 0.2
	mostOfLiveKitMemory = 0.1
)

// printLiveKit prints what calls cost here beside that.
func printLiveKit(line func(string, ...any), cpu, memory float64) {
	line("%s\t\t57 to 63 ms\t\t8192 to 9216 kB", liveKitWhere)
	printRatio(line, "CPU against those figures", cpu, liveKitCPU, mostOfLiveKitCPU)
	printRatio(line, "memory against those figures", memory, liveKitMemory, mostOfLiveKitMemory)
}

// printLiveKitDelay does so for the delay of sound, in ms.
func printLiveKitDelay(line func(string, ...any), toBrowser, toPhone float64) {
	line("%s\t68 ms\t\t125 to 147 ms", liveKitWhere)
	printRatio(line, "delay, phone → browser, against those figures", toBrowser, liveKitFromThem, mostOfLiveKitDelay)
	printRatio(line, "delay, browser → phone, against those figures", toPhone, liveKitToPhone, mostOfLiveKitDelay)
}
