package transcode

import (
	"sync"
	"sync/atomic"
	"time"

	"tandem/media"
)

// Watch says when a bridge tells that its phone sends nothing. It does not run while the call is on hold, whoever holds.
// What is to be told runs on the clock of many phones: it must only post.
type Watch struct {
	First     time.Duration // no RTP for so long after Watch; 0: not told
	OnFirst   func(media.Heard)
	Silence   time.Duration // neither RTP nor RTCP for so long; 0: not told
	OnSilence func(media.Heard)
}

// watcher keeps a Watch. The clock looks at next alone until there is something to do.
type watcher struct {
	next atomic.Int64 // when to look, in Unix ns; 0: never

	mu     sync.Mutex
	watch  Watch
	heard  func() media.Heard
	since  time.Time // silence counts from here: the beginning, or the end of a hold
	paused bool
	first  bool // OnFirst is still to be told, or not
	over   bool // OnSilence was told
}

// Watch begins to listen for the phone's silence, from now on. It may be called again: that begins anew.
func (b *Bridge) Watch(w Watch) {
	if b.port == nil {
		return
	}
	b.watcher.begin(w, b.port.Heard, b.engine.now())
}

func (w *watcher) begin(watch Watch, heard func() media.Heard, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.watch, w.heard, w.since = watch, heard, now
	w.first, w.over = watch.First > 0, watch.Silence == 0
	w.schedule(now)
}

// update follows a hold and its end.
func (w *watcher) update(m media.PortMedia, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	paused := !m.Send || !m.Receive
	if w.paused && !paused {
		w.since = now
	}
	w.paused = paused
	w.schedule(now)
}

// move listens to another phone, from now on.
func (w *watcher) move(heard func() media.Heard, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.heard != nil {
		w.heard, w.since = heard, now
	}
	w.schedule(now)
}

func (w *watcher) stop() { w.next.Store(0) }

// look tells what has not come. It runs on the clock.
func (w *watcher) look(now time.Time) {
	if next := w.next.Load(); next == 0 || now.UnixNano() < next {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.next.Load() == 0 { // stopped meanwhile
		return
	}
	heard := w.heard()
	// What came just before the answer came from the same far end: early media.
	if w.first && heard.RTP.After(w.since.Add(-w.watch.First)) {
		w.first = false
	}
	if w.first && now.Sub(w.since) >= w.watch.First {
		w.first = false
		w.watch.OnFirst(heard)
	}
	if last := w.last(heard); !w.over && now.Sub(last) >= w.watch.Silence {
		w.over = true
		w.watch.OnSilence(heard)
	}
	w.schedule(now)
}

// last is when there was a sign of life.
func (w *watcher) last(heard media.Heard) time.Time {
	last := w.since
	for _, at := range []time.Time{heard.RTP, heard.RTCP} {
		if at.After(last) {
			last = at
		}
	}
	return last
}

// schedule says when to look again. w.mu is held.
func (w *watcher) schedule(now time.Time) {
	var next int64
	if w.heard != nil && !w.paused {
		if w.first {
			next = max(w.since.Add(w.watch.First).UnixNano(), now.UnixNano()+1)
		}
		if !w.over {
			if at := max(w.last(w.heard()).Add(w.watch.Silence).UnixNano(), now.UnixNano()+1); next == 0 || at < next {
				next = at
			}
		}
	}
	w.next.Store(next)
}
