package sessions

import (
	"slices"

	"tandem/media"
)

// hears is the whole policy of who hears and sees whom: no lock, no clock, no I/O. Browsers, phones and recorders all
// get what it says and nothing else, so that a whisper can't leak through one of them.
//
// Both must be in the same session. A list of participants overrides the session; an entry without aliases means
// every stream of that participant. Nobody hears itself.
func hears(listener, speaker Participant, alias string) bool {
	if listener.ID == speaker.ID || listener.Session == "" || listener.Session != speaker.Session {
		return false
	}
	subs := listener.Subscriptions
	if len(subs.Participants) == 0 {
		return subs.Session == listener.Session
	}
	for _, s := range subs.Participants {
		if s.Participant == speaker.ID && (len(s.StreamAliases) == 0 || slices.Contains(s.StreamAliases, alias)) {
			return true
		}
	}
	return false
}

// muted says whether the listener gets no sound of what it hears of the speaker.
func muted(listener, speaker Participant) bool {
	return speaker.Muted || slices.Contains(speaker.MutedFor, listener.ID)
}

// follows says whether the listener subscribes to anything of the speaker, whatever it publishes.
func follows(listener, speaker Participant) bool {
	if listener.ID == speaker.ID || listener.Session == "" || listener.Session != speaker.Session {
		return false
	}
	subs := listener.Subscriptions
	if len(subs.Participants) == 0 {
		return subs.Session == listener.Session
	}
	return slices.ContainsFunc(subs.Participants, func(s Subscription) bool { return s.Participant == speaker.ID })
}

// difference compares what a listener has with what it should have, and keeps the order of want.
func difference(have, want []*media.Source) (gone, added []*media.Source) {
	for _, src := range have {
		if !slices.Contains(want, src) {
			gone = append(gone, src)
		}
	}
	for _, src := range want {
		if !slices.Contains(have, src) {
			added = append(added, src)
		}
	}
	return gone, added
}
