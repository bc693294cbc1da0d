package dialogs_test

import (
	"time"

	"tandem/dialogs"
)

// wishes is what a call asked of its leg.
type wishes struct {
	holds    chan bool
	refers   chan dialogs.Refer
	referred chan int
	keys     chan infoKey
}

// infoKey is a key that was to go by SIP INFO.
type infoKey struct {
	digit    byte
	duration time.Duration
}

func newWishes() wishes {
	return wishes{holds: make(chan bool, 16), refers: make(chan dialogs.Refer, 16), referred: make(chan int, 16), keys: make(chan infoKey, 64)}
}

func (w wishes) Hold(on bool)          { w.holds <- on }
func (w wishes) Refer(r dialogs.Refer) { w.refers <- r }
func (w wishes) Referred(status int)   { w.referred <- status }

func (w wishes) SendKey(digit byte, duration time.Duration) { w.keys <- infoKey{digit, duration} }
