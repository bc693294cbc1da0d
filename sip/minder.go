package sip

import (
	"context"
	"reflect"
	"sync"

	"tandem/trunks"
)

// duty is what is done for a trunk as long as it wants that.
type duty struct {
	key       trunks.Key
	registers bool // a registration is kept; else the trunk is probed
}

// minder does its duty for one trunk, as long as the trunk stays what it is.
type minder struct {
	trunk  trunks.Trunk
	cancel context.CancelFunc
	done   chan struct{}
}

// minds says whether a changed trunk needs no other minder.
func (m *minder) minds(d duty, t *trunks.Trunk) bool {
	if d.registers {
		return registersAlike(&m.trunk, t)
	}
	return reflect.DeepEqual(m.trunk, *t)
}

// registersAlike says whether all that a REGISTER depends on is the same in both: while a registration is taken back and
// made anew, calls are lost.
func registersAlike(a, b *trunks.Trunk) bool {
	return a.Key() == b.Key() && a.Register == b.Register && a.URI == b.URI && a.TLSCert == b.TLSCert && a.TLSKey == b.TLSKey &&
		a.Username == b.Username && a.Password == b.Password && a.Realm == b.Realm && a.PublicIP == b.PublicIP
}

// mindTrunks keeps registrations with the trunks that want one and probes those that want that, as the book has them at
// each time, until leave is closed. Then it takes the registrations back; ctx cuts that short.
func (a *Agent) mindTrunks(ctx context.Context, leave <-chan struct{}) {
	minding := make(map[duty]*minder)
	defer func() {
		var all sync.WaitGroup
		for _, m := range minding {
			m.cancel()
			all.Go(func() { <-m.done })
		}
		all.Wait()
	}()
	for {
		list, changed := a.book.Trunks()
		wanted := make(map[duty]*trunks.Trunk)
		for _, t := range list {
			if t.URI != "" && t.Register {
				wanted[duty{t.Key(), true}] = t
			}
			if t.URI != "" && t.Probe > 0 {
				wanted[duty{t.Key(), false}] = t
			}
		}
		for d, m := range minding {
			if wanted[d] == nil {
				m.cancel()
				<-m.done
				delete(minding, d)
			}
		}
		for d, t := range wanted {
			if before := minding[d]; before == nil || !before.minds(d, t) {
				minding[d] = a.mind(ctx, before, d, t)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-leave:
			return
		case <-changed:
		}
	}
}

// mind starts to mind a trunk, once whoever minded what it was before is done.
func (a *Agent) mind(ctx context.Context, before *minder, d duty, t *trunks.Trunk) *minder {
	stop, cancel := context.WithCancel(ctx)
	m := &minder{trunk: *t, cancel: cancel, done: make(chan struct{})}
	go func() { // ends when m.cancel was called, and mindTrunks waits for it
		defer close(m.done)
		if before != nil {
			before.cancel()
			<-before.done
		}
		read, err := readTrunk(t)
		switch {
		case err != nil:
			a.log.Error("sip: the trunk is not minded", "trunk", t.Name, "error", err)
		case d.registers:
			newRegistration(a, read).run(ctx, stop)
		default:
			a.probe(stop, read)
		}
	}()
	return m
}
