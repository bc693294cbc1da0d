package sessions

import "tandem/media"

// Endpoint is where a participant's media enters and leaves: a browser's device, a phone's bridge, a recorder.
// Its methods only post: they never block and never call back into this package.
type Endpoint interface {
	// Subscribe lets the endpoint receive src until Unsubscribe with the same value.
	Subscribe(src *media.Source)
	Unsubscribe(src *media.Source)
	// Mute keeps the sound of src from the endpoint, or lets it through again; video and keys go on, and nothing is
	// negotiated anew. It may come before Subscribe, so that nothing is heard; Unsubscribe forgets it.
	Mute(src *media.Source, muted bool)
	// Close ends the endpoint; the cause says why in words. It may be called more than once.
	Close(cause error)
}

// Mover is an endpoint that wants to know which session its participant is in. Moved must not block, like the rest.
type Mover interface {
	// Moved tells the session that the participant came into; empty: it is in none any more.
	Moved(session string)
}

// Plain is an endpoint that can do without codecs where a session wants that. SetPassthrough must not block, like the rest.
type Plain interface {
	// SetPassthrough says what the session of the participant wants, before anything of that session is heard.
	SetPassthrough(on bool)
}

// Slot is the place that an endpoint takes at its participant: at most one device and one phone leg.
type Slot int

// The slots.
const (
	DeviceSlot Slot = iota
	PhoneSlot
)
