package dialogs

// input is what can happen to a dialog.
type input int

const (
	inviteSent  input = iota // the INVITE is on the wire
	farRinging               // 180 or 183 came
	farAnswered              // the far end's 200 came
	farEnded                 // a final refusal, a BYE or a CANCEL came, or the leg broke
	localAnswer              // the application answers an inbound call
	localHangup              // the application ends the dialog, or its participant is deleted
	ringTimeout              // nobody answered in time
	timeIsUp                 // the longest duration that was asked for is over
	fault                    // nothing could be dialled, or the gateway stops
)

// inputs lists all of them, for the table test.
func inputs() []input {
	return []input{
		inviteSent, farRinging, farAnswered, farEnded, localAnswer, localHangup, ringTimeout, timeIsUp, fault,
	}
}

// effect is what the owner of a dialog has to do after a transition, in the order given.
type effect int

const (
	notify     effect = iota // save the state and the event that reports it, in one transaction
	tell                     // show it to the devices that follow the participant
	startRing                // start the ring timer
	startTalk                // stop the ring timer, start the one for the longest duration
	acceptLeg                // send the 200 to an inbound call
	endLeg                   // CANCEL, refuse or BYE, as the leg's moment requires
	releaseAll               // take the media down, let go of the participant
)

// next is the whole life of a dialog: no I/O, no clock, no lock. ok is false for an input that the state does not
// have: a request of the application is then refused, news of the far end is ignored.
//
// TERMINATED is reached once and never left: so there is exactly one terminal event. The participant is let go before
// that event is written: whoever reads it may call again at once.
func next(s State, inbound bool, in input) (to State, effects []effect, ok bool) {
	switch {
	case s == Terminated && in == farAnswered:
		return Terminated, []effect{endLeg}, true // the 200 crossed our CANCEL: ACK it, then BYE (RFC 3261 §13.2.2.4)
	case s == Terminated:
		return Terminated, nil, false
	case s == StateNew && !inbound && in == inviteSent:
		return Calling, []effect{notify, tell, startRing}, true
	case early(s) && !inbound && in == farRinging && s != Ringing:
		return Ringing, []effect{notify, tell}, true
	case early(s) && !inbound && in == farAnswered:
		return Answered, []effect{startTalk, notify, tell}, true
	case s == Ringing && inbound && in == localAnswer:
		return Answered, []effect{acceptLeg, startTalk, notify, tell}, true
	case in == farEnded:
		return Terminated, []effect{tell, releaseAll, notify}, true
	case in == localHangup, in == fault, in == ringTimeout && early(s), in == timeIsUp && s == Answered:
		return Terminated, []effect{endLeg, tell, releaseAll, notify}, true
	}
	return s, nil, false
}

// early says whether the call is on its way but nobody has answered.
func early(s State) bool { return s == Calling || s == Ringing }
