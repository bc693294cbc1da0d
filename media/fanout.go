package media

import (
	"slices"
	"sync"
	"sync/atomic"
)

// Fanout is a list of receivers that is read for every packet and seldom changed. All takes no lock.
// The zero value is ready.
type Fanout[S comparable] struct {
	mu   sync.Mutex // held by Add and Remove only
	list atomic.Pointer[[]S]
}

// Add appends s; one that is already there stays there once.
func (f *Fanout[S]) Add(s S) {
	f.mu.Lock()
	defer f.mu.Unlock()
	old := f.All()
	if slices.Contains(old, s) {
		return
	}
	list := append(slices.Clip(slices.Clone(old)), s)
	f.list.Store(&list)
}

// Remove takes s out. A reader that began before may still reach s once.
func (f *Fanout[S]) Remove(s S) {
	f.mu.Lock()
	defer f.mu.Unlock()
	old := f.All()
	i := slices.Index(old, s)
	if i < 0 {
		return
	}
	list := slices.Delete(slices.Clone(old), i, i+1)
	f.list.Store(&list)
}

// All returns the receivers of this moment. The slice must not be changed.
func (f *Fanout[S]) All() []S {
	if p := f.list.Load(); p != nil {
		return *p
	}
	return nil
}

// Len counts the receivers.
func (f *Fanout[S]) Len() int { return len(f.All()) }
