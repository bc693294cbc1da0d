package sip

import (
	"context"
	"reflect"
	"sync"

	"tandem/trunks"
)

// minder keeps the registration with one trunk and probes it, as long as the trunk stays what it is.
type minder struct {
	trunk  trunks.Trunk
	cancel context.CancelFunc
	done   chan struct{}
}

// mindTrunks keeps registrations with the trunks that want one and probes those that want that, as the book has them at
// each time, until leave is closed. Then it takes the registrations back; ctx cuts that short.
func (a *Agent) mindTrunks(ctx context.Context, leave <-chan struct{}) {
	minding := make(map[trunks.Key]*minder)
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
		wanted := make(map[trunks.Key]*trunks.Trunk)
		for _, t := range list {
			if t.URI != "" && (t.Register || t.Probe > 0) {
				wanted[t.Key()] = t
			}
		}
		for key, m := range minding {
			if wanted[key] == nil {
				m.cancel()
				<-m.done
				delete(minding, key)
			}
		}
		for key, t := range wanted {
			before := minding[key]
			if before != nil && reflect.DeepEqual(before.trunk, *t) {
				continue
			}
			minding[key] = a.mind(ctx, before, t)
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
func (a *Agent) mind(ctx context.Context, before *minder, t *trunks.Trunk) *minder {
	stop, cancel := context.WithCancel(ctx)
	m := &minder{trunk: *t, cancel: cancel, done: make(chan struct{})}
	go func() { // ends when m.cancel was called, and mindTrunks waits for it
		defer close(m.done)
		if before != nil {
			before.cancel()
			<-before.done
		}
		read, err := readTrunk(t)
		if err != nil {
			a.log.Error("sip: the trunk is not minded", "trunk", t.Name, "error", err)
			return
		}
		var both sync.WaitGroup
		if t.Register {
			both.Go(func() { newRegistration(a, read).run(ctx, stop) })
		}
		if t.Probe > 0 {
			both.Go(func() { a.probe(stop, read) })
		}
		both.Wait()
	}()
	return m
}
