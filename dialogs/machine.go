package dialogs

import (
	"time"

	"tandem/media"
	"tandem/webhooks"
)

// listenForMachine begins to judge who answered, when the application asked for that and there is sound.
func (c *call) listenForMachine() {
	if !c.detect || c.bridge == nil || c.d.State != Answered {
		return
	}
	c.detect = false
	c.bridge.DetectMachine(func(found media.Answerer) { // on the goroutine of the phone's packets: it must not block
		select {
		case c.answerers <- found:
		default: // two are all that can come
		}
	})
}

// onAnswerer reports who answered, or the machine's beep.
func (c *call) onAnswerer(found media.Answerer) {
	if c.d.State != Answered {
		return
	}
	e := webhooks.Event{
		ID: webhooks.NewID(), Account: c.d.Account, Name: webhooks.OnMachineDetection, Time: time.Now(), Participant: c.d.Participant,
		DialogID: c.d.ID, Verdict: verdictOf(found),
	}
	c.save(change{key: &e})
}

// verdictOf is the contract's word.
func verdictOf(a media.Answerer) string {
	switch a {
	case media.Human:
		return "HUMAN"
	case media.Machine:
		return "MACHINE"
	case media.Beep:
		return "BEEP"
	case media.AnswererUnknown:
	}
	return "UNKNOWN"
}
