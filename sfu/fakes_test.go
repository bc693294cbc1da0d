package sfu_test

import (
	"context"
	"sync"

	"tandem/errs"
	"tandem/media"
	"tandem/sessions"
	"tandem/sfu"
)

// room is a session in which everybody hears everybody else: what sessions.Service is to the server.
type room struct {
	mu      sync.Mutex
	people  map[string]sessions.Participant // by token
	members map[string]*member              // by participant
	events  []string
	alone   bool                    // of those with devices nobody hears another
	failing error                   // what Connect answers
	entered func(sessions.Endpoint) // called by Connect
}

type member struct {
	room        *room
	participant string
	endpoint    sessions.Endpoint
	sources     []*media.Source
	ended       bool
}

func newRoom(people ...sessions.Participant) *room {
	r := &room{people: make(map[string]sessions.Participant), members: make(map[string]*member)}
	for _, p := range people {
		r.people["token-"+p.ID] = p
	}
	return r
}

func person(id string, may ...sessions.Permission) sessions.Participant {
	return sessions.Participant{ID: id, Account: "a", Permissions: may}
}

func anybody(ids ...string) *room {
	var people []sessions.Participant
	for _, id := range ids {
		people = append(people, person(id, sessions.PublishAudio, sessions.PublishVideo))
	}
	return newRoom(people...)
}

func (r *room) Authenticate(_ context.Context, token string) (sessions.Participant, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, ok := r.people[token]
	if !ok {
		return p, errs.New(errs.Unauthenticated, "the token has expired")
	}
	return p, nil
}

func (r *room) Connect(_ context.Context, p sessions.Participant, device string, ep sessions.Endpoint) (sfu.Membership, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.entered != nil {
		r.entered(ep)
	}
	if r.failing != nil {
		return nil, r.failing
	}
	if old := r.members[p.ID]; old != nil {
		old.endpoint.Close(errs.New(errs.Conflict, "another device of this participant has connected"))
		old.endLocked("left")
	}
	m := &member{room: r, participant: p.ID, endpoint: ep}
	r.members[p.ID] = m
	r.events = append(r.events, p.ID+" connected "+device)
	for _, o := range r.members {
		for _, src := range o.sources {
			if o != m && (!r.alone || o.endpoint == nil) {
				ep.Subscribe(src)
			}
		}
	}
	return m, nil
}

// source is published into the room by somebody who has no device.
func (r *room) publish(src *media.Source) {
	r.mu.Lock()
	m := r.members[src.Participant]
	if m == nil {
		m = &member{room: r, participant: src.Participant}
		r.members[src.Participant] = m
	}
	r.mu.Unlock()
	m.Publish(src)
}

func (r *room) unpublish(src *media.Source) {
	r.mu.Lock()
	m := r.members[src.Participant]
	r.mu.Unlock()
	m.Unpublish(src)
}

func (r *room) delete(participant string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.people, "token-"+participant)
	if m := r.members[participant]; m != nil {
		m.endpoint.Close(errs.New(errs.NotFound, "participant %q was deleted", participant))
		m.endLocked("left")
	}
}

func (r *room) log() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.events...)
}

func (r *room) sources(participant string) []*media.Source {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m := r.members[participant]; m != nil {
		return append([]*media.Source(nil), m.sources...)
	}
	return nil
}

func (m *member) Publish(src *media.Source) {
	m.room.mu.Lock()
	defer m.room.mu.Unlock()
	m.sources = append(m.sources, src)
	for _, o := range m.room.members {
		if o != m && o.endpoint != nil && (!m.room.alone || m.endpoint == nil) {
			o.endpoint.Subscribe(src)
		}
	}
}

func (m *member) Unpublish(src *media.Source) {
	m.room.mu.Lock()
	defer m.room.mu.Unlock()
	m.unpublishLocked(src)
}

func (m *member) unpublishLocked(src *media.Source) {
	for i, s := range m.sources {
		if s != src {
			continue
		}
		m.sources = append(m.sources[:i:i], m.sources[i+1:]...)
		for _, o := range m.room.members {
			if o != m && o.endpoint != nil {
				o.endpoint.Unsubscribe(src)
			}
		}
		return
	}
}

func (m *member) Leave(context.Context) error { return m.end("left") }

func (m *member) Lost(context.Context) error { return m.end("lost") }

func (m *member) end(how string) error {
	m.room.mu.Lock()
	defer m.room.mu.Unlock()
	m.endLocked(how)
	return nil
}

func (m *member) endLocked(how string) {
	if m.ended {
		return
	}
	m.ended = true
	for len(m.sources) > 0 {
		m.unpublishLocked(m.sources[0])
	}
	if m.room.members[m.participant] == m {
		delete(m.room.members, m.participant)
	}
	m.room.events = append(m.room.events, m.participant+" "+how)
}
