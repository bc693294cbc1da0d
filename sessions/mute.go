package sessions

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"tandem/errs"
	"tandem/media"
)

// maxMutedFor bounds for how many single participants one can be muted.
const maxMutedFor = 100

// MuteChange is what a device is told when somebody is muted or heard again.
type MuteChange struct {
	Participant string // who is muted, or not any more
	Muted       bool
	Subscriber  string // for whom alone; empty: for everybody
	// Source is the stream alone that this is about, which the device begins to hear; nil: all of the participant's.
	Source *media.Source
}

// SetMuted takes a participant's voice from everybody who hears it, or from one subscriber alone, or gives it back; what
// it sends besides, and who subscribes to it, stay as they are. Heard by everybody again, it is heard by every single
// subscriber too. It stays so, wherever the participant goes, until it is changed. With a session, the participant must
// be in it. A subscriber that does not exist is errs.Invalid.
func (s *Service) SetMuted(ctx context.Context, account, session, participant, subscriber string, muted bool) (Participant, error) {
	for range maxRetries {
		p, err := s.mutable(ctx, account, session, participant, subscriber)
		if err != nil {
			return Participant{}, err
		}
		changed := p
		if err := changed.mute(subscriber, muted); err != nil {
			return Participant{}, err
		}
		if sameMute(p, changed) {
			return p, nil
		}
		saved, err := s.store.SaveMembership(ctx, changed, s.cfg.ParticipantsPerSession)
		if errors.Is(err, ErrStale) {
			continue
		}
		if err != nil {
			return Participant{}, fmt.Errorf("save participant %s: %w", p.ID, err)
		}
		s.apply(saved)
		return saved, nil
	}
	return Participant{}, errs.New(errs.Conflict, "participant %q is being changed by too many requests at once; try again", participant)
}

// mutable reads the participant and judges the request.
func (s *Service) mutable(ctx context.Context, account, session, participant, subscriber string) (Participant, error) {
	if session != "" {
		if _, err := s.store.Session(ctx, account, session); err != nil {
			return Participant{}, err
		}
	}
	p, err := s.store.Participant(ctx, account, participant)
	if err != nil {
		return Participant{}, err
	}
	if session != "" {
		if err := memberOf(p, session); err != nil {
			return Participant{}, err
		}
	}
	if subscriber == participant {
		return Participant{}, errs.New(errs.Invalid, "subscriber: must be another participant; nobody hears itself")
	}
	if subscriber != "" {
		if _, err := s.store.Participant(ctx, account, subscriber); errs.CodeOf(err) == errs.NotFound {
			return Participant{}, errs.New(errs.Invalid, "subscriber: participant %q does not exist", subscriber)
		} else if err != nil {
			return Participant{}, err
		}
	}
	return p, nil
}

// mute changes the row.
func (p *Participant) mute(subscriber string, muted bool) error {
	switch i := slices.Index(p.MutedFor, subscriber); {
	case subscriber == "" && muted:
		p.Muted = true
	case subscriber == "":
		p.Muted, p.MutedFor = false, nil
	case muted && i < 0:
		if len(p.MutedFor) >= maxMutedFor {
			return errs.New(errs.Conflict, "participant %q is muted for %d others, more are not possible: mute it for everybody", p.ID, maxMutedFor)
		}
		p.MutedFor = append(slices.Clone(p.MutedFor), subscriber)
		slices.Sort(p.MutedFor)
	case !muted && i >= 0:
		p.MutedFor = slices.Delete(slices.Clone(p.MutedFor), i, i+1)
	}
	return nil
}

// sameMute says whether the same hear both.
func sameMute(a, b Participant) bool {
	return a.Muted == b.Muted && slices.Equal(a.MutedFor, b.MutedFor)
}

// with returns a set that has src too.
func with(set map[*media.Source]bool, src *media.Source) map[*media.Source]bool {
	if set == nil {
		set = make(map[*media.Source]bool)
	}
	set[src] = true
	return set
}

// tellMutes tells the devices that a change concerns: the participant's own, and those that follow it. s.mu is held.
func (s *Service) tellMutes(l *presence, before Participant) {
	if before.Muted != l.row.Muted {
		change := MuteChange{Participant: l.row.ID, Muted: l.row.Muted}
		l.observeMute(change)
		for _, other := range s.live.rooms[l.row.Session] {
			if other != l && follows(other.row, l.row) {
				other.observeMute(change)
			}
		}
	}
	for _, id := range append(slices.Clone(before.MutedFor), l.row.MutedFor...) {
		is := slices.Contains(l.row.MutedFor, id)
		if is == slices.Contains(before.MutedFor, id) {
			continue
		}
		change := MuteChange{Participant: l.row.ID, Muted: is, Subscriber: id}
		l.observeMute(change)
		if other := s.live.present[id]; other != nil && follows(other.row, l.row) {
			other.observeMute(change)
		}
	}
}

// tellMuted tells a device that begins to hear somebody who is muted.
func (s *Service) tellMuted(a *Attachment, listener *presence, src *media.Source) {
	l := s.live.present[src.Participant]
	o, ok := a.endpoint.(Observer)
	if !ok || l == nil {
		return
	}
	change := MuteChange{Participant: src.Participant, Muted: true, Source: src}
	if !l.row.Muted {
		change.Subscriber = listener.row.ID
	}
	o.StreamMuted(change)
}

func (l *presence) observeMute(change MuteChange) {
	if a := l.slots[DeviceSlot]; a != nil {
		if o, ok := a.endpoint.(Observer); ok {
			o.StreamMuted(change)
		}
	}
}
