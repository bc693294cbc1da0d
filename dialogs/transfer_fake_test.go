package dialogs_test

import "tandem/dialogs"

// wishes is what a call asked of its leg.
type wishes struct {
	holds    chan bool
	refers   chan dialogs.Refer
	referred chan int
}

func newWishes() wishes {
	return wishes{holds: make(chan bool, 16), refers: make(chan dialogs.Refer, 16), referred: make(chan int, 16)}
}

func (w wishes) Hold(on bool)          { w.holds <- on }
func (w wishes) Refer(r dialogs.Refer) { w.refers <- r }
func (w wishes) Referred(status int)   { w.referred <- status }
