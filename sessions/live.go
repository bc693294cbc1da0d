package sessions

import (
	"math"
	"slices"

	"tandem/errs"
	"tandem/media"
)

// registry is the live side of the service: who has an endpoint here, by participant and by session. A mutex of
// Service guards it; what it calls on endpoints only posts.
type registry struct {
	present map[string]*presence
	rooms   map[string][]*presence // by session, in the order of coming; no empty lists
}

// presence is a participant that has at least one endpoint here.
type presence struct {
	row   Participant // as last applied; its Version only rises
	slots [PhoneSlot + 1]*Attachment
}

// unread is older than every version that the database gives.
const unread = -1

func newRegistry() registry {
	return registry{present: map[string]*presence{}, rooms: map[string][]*presence{}}
}

func (r *registry) enter(l *presence) {
	if l.row.Session != "" {
		r.rooms[l.row.Session] = append(r.rooms[l.row.Session], l)
	}
}

func (r *registry) exit(l *presence) {
	room := l.row.Session
	rest := slices.DeleteFunc(r.rooms[room], func(o *presence) bool { return o == l })
	if len(rest) == 0 {
		delete(r.rooms, room)
		return
	}
	r.rooms[room] = rest
}

// place puts a into its slot; false when the slot is taken.
func (s *Service) place(a *Attachment) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.presenceOf(a.who)
	if l.slots[a.slot] != nil {
		return false
	}
	l.slots[a.slot] = a
	a.passthrough(l.row)
	if l.row.Session != "" {
		a.moved(l.row.Session)
	}
	s.settleRoomOf(a.who.ID)
	return true
}

// replace puts a into its slot and returns who had it, taken off the air, or nil; and a's turn to write that.
func (s *Service) replace(a *Attachment) (*Attachment, turn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.presenceOf(a.who)
	old := l.slots[a.slot]
	if old != nil {
		old.silence()
	}
	l.slots[a.slot] = a
	a.passthrough(l.row)
	s.settleRoomOf(a.who.ID)
	return old, s.takeTurn(a.who.ID)
}

// presenceOf returns the participant's presence, made when needed. s.mu is held. A new one is in no session: what its
// endpoint knows of the row may be old, so it hears nobody, and nobody hears it, until refresh, or Know, has brought the row.
func (s *Service) presenceOf(p Participant) *presence {
	l := s.live.present[p.ID]
	if l == nil {
		l = &presence{row: Participant{ID: p.ID, Account: p.Account, Version: unread}}
		s.live.present[p.ID] = l
	}
	return l
}

// over says whether the attachment has ended.
func (a *Attachment) over() bool {
	a.service.mu.Lock()
	defer a.service.mu.Unlock()
	return a.ended
}

// silence ends the attachment's part in the media. s.mu is held.
func (a *Attachment) silence() {
	a.ended = true
	a.published = nil
	for _, src := range a.hears {
		a.endpoint.Unsubscribe(src)
	}
	a.hears, a.silent = nil, nil
}

// remove takes the endpoint out of the live media.
func (a *Attachment) remove() {
	a.service.mu.Lock()
	defer a.service.mu.Unlock()
	a.takeOut()
}

// leave is remove for a device, with its turn to write the end; false when it was out already.
func (a *Attachment) leave() (turn, bool) {
	a.service.mu.Lock()
	defer a.service.mu.Unlock()
	if !a.takeOut() {
		return turn{}, false
	}
	return a.service.takeTurn(a.who.ID), true
}

// takeOut takes the endpoint out; false when it was out already. s.mu is held.
func (a *Attachment) takeOut() bool {
	s := a.service
	if a.ended {
		return false
	}
	a.silence()
	l := s.live.present[a.who.ID]
	if l == nil || l.slots[a.slot] != a {
		return true
	}
	l.slots[a.slot] = nil
	s.settleRoomOf(a.who.ID)
	if l.slots == [PhoneSlot + 1]*Attachment{} {
		s.live.exit(l)
		delete(s.live.present, a.who.ID)
	}
	return true
}

// apply lets live media follow saved rows. An older row than the one that was applied last changes nothing.
func (s *Service) apply(rows ...Participant) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, row := range rows {
		if l := s.live.present[row.ID]; l != nil && row.Version >= l.row.Version {
			s.update(l, row)
		}
	}
}

// update replaces a row and lets everybody whom that concerns follow. s.mu is held.
func (s *Service) update(l *presence, row Participant) {
	old := l.row.Session
	before := l.row
	if row.Session == old {
		l.row = row
		if sameMute(before, row) {
			s.settleOne(l)
		} else {
			s.settleRoomOf(row.ID)
			s.tellMutes(l, before)
		}
		return
	}
	s.live.exit(l)
	l.row = row
	s.live.enter(l)
	for _, a := range l.slots {
		a.passthrough(row)
	}
	s.settle(old)
	s.settle(row.Session)
	s.settleOne(l)
	s.tellMutes(l, before)
	for _, a := range l.slots {
		a.moved(row.Session)
	}
}

// passthrough tells the endpoint, if there is one and it wants to know. s.mu is held.
func (a *Attachment) passthrough(row Participant) {
	if a == nil {
		return
	}
	if p, ok := a.endpoint.(Plain); ok {
		p.SetPassthrough(row.Passthrough)
	}
}

// moved tells the endpoint, if there is one and it wants to know. s.mu is held.
func (a *Attachment) moved(session string) {
	if a == nil {
		return
	}
	if m, ok := a.endpoint.(Mover); ok {
		m.Moved(session)
	}
}

// deleted takes a deleted participant off the air and closes what it has here.
func (s *Service) deleted(participant string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.live.present[participant]
	if l == nil {
		return
	}
	row := l.row
	row.Session, row.Passthrough, row.Subscriptions, row.Version = "", false, Subscriptions{}, math.MaxInt64
	s.update(l, row)
	for _, a := range l.slots {
		if a != nil {
			a.endpoint.Close(errs.New(errs.NotFound, "participant %q was deleted", participant))
		}
	}
}

func (s *Service) settleRoomOf(participant string) {
	if l := s.live.present[participant]; l != nil {
		s.settle(l.row.Session)
		s.settleOne(l)
	}
}

// settle makes every member of a session hear what the policy says. s.mu is held.
func (s *Service) settle(session string) {
	if session == "" {
		return
	}
	for _, listener := range s.live.rooms[session] {
		s.settleOne(listener)
	}
}

// settleOne posts the difference between what a listener hears and what it should. s.mu is held.
func (s *Service) settleOne(listener *presence) {
	var want []*media.Source
	var silent map[*media.Source]bool
	if listener.row.Session != "" {
		for _, speaker := range s.live.rooms[listener.row.Session] {
			for _, a := range speaker.slots {
				if a == nil {
					continue
				}
				for _, src := range a.published {
					if hears(listener.row, speaker.row, src.Alias) {
						want = append(want, src)
						if muted(listener.row, speaker.row) {
							silent = with(silent, src)
						}
					}
				}
			}
		}
	}
	for _, a := range listener.slots {
		if a == nil {
			continue
		}
		gone, added := difference(a.hears, want)
		for _, src := range gone {
			a.endpoint.Unsubscribe(src)
		}
		for _, src := range a.hears {
			if silent[src] != a.silent[src] && slices.Contains(want, src) {
				a.endpoint.Mute(src, silent[src])
			}
		}
		for _, src := range added {
			if silent[src] { // before anything of it is heard
				a.endpoint.Mute(src, true)
			}
			a.endpoint.Subscribe(src)
			if silent[src] {
				s.tellMuted(a, listener, src)
			}
		}
		a.silent = silent
		if len(gone)+len(added) > 0 {
			a.hears = want
		}
	}
}

// DialogChange is what a device is told of a dialog of somebody whom it follows.
type DialogChange struct {
	Dialog, Participant, State, To, From, Reason, Details string
}

// Observer is an endpoint that wants to know of dialogs and mutes too. Its methods must not block.
type Observer interface {
	DialogChanged(change DialogChange)
	StreamMuted(change MuteChange)
}

// Announce tells the devices that follow change.Participant, and its own, what became of its dialog.
func (s *Service) Announce(change DialogChange) {
	s.mu.Lock()
	defer s.mu.Unlock()
	speaker := s.live.present[change.Participant]
	if speaker == nil {
		return
	}
	tell := func(l *presence) {
		if a := l.slots[DeviceSlot]; a != nil {
			if o, ok := a.endpoint.(Observer); ok {
				o.DialogChanged(change)
			}
		}
	}
	tell(speaker)
	for _, l := range s.live.rooms[speaker.row.Session] {
		if l != speaker && follows(l.row, speaker.row) {
			tell(l)
		}
	}
}

// OnThePhone says whether a participant has a phone leg here.
func (s *Service) OnThePhone(participant string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.live.present[participant]
	return l != nil && l.slots[PhoneSlot] != nil
}

// Online says whether a participant has any endpoint here.
func (s *Service) Online(participant string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.live.present[participant] != nil
}

// Live counts the participants that have an endpoint here.
func (s *Service) Live() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.live.present)
}
