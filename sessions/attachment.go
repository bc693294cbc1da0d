package sessions

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"tandem/errs"
	"tandem/media"
	"tandem/webhooks"
)

// Attachment is an endpoint in its place at a participant. It ends once: by Leave, Lost or Detach.
type Attachment struct {
	service    *Service
	who        Participant // as it was when the endpoint came
	slot       Slot
	endpoint   Endpoint
	connection Connection // devices only

	// guarded by Service.mu
	published []*media.Source
	hears     []*media.Source
	silent    map[*media.Source]bool // of hears: those without sound
	ended     bool
}

// Connect puts a device into its place and writes onConnect. Another device of the participant is closed, and leaves
// before that. device is the client's own name for itself (uniqueId).
func (s *Service) Connect(ctx context.Context, p Participant, device string, ep Endpoint) (*Attachment, error) {
	a := &Attachment{service: s, who: p, slot: DeviceSlot, endpoint: ep}
	a.connection = Connection{ID: uuid.NewString(), Account: p.Account, Participant: p.ID, Device: device, Opened: time.Now()}

	old, turn := s.replace(a)
	defer turn.end()
	if old != nil {
		old.endpoint.Close(errs.New(errs.Conflict, "another device of this participant has connected"))
	}
	turn.wait()
	if old != nil {
		if err := old.report(ctx, webhooks.OnLeave); err != nil {
			a.remove()
			return nil, err
		}
	}
	if err := s.pay(ctx, p.ID); err != nil { // what ended before is told before
		a.remove()
		return nil, fmt.Errorf("connect device: %w", err)
	}
	err := s.store.Connected(ctx, a.connection, a.event(webhooks.OnConnect))
	if err == nil {
		err = s.refresh(ctx, p)
	}
	// Its end is still to be written when it is gone meanwhile, was replaced in its turn before its row stood, or when the
	// answer of the database was lost and nobody knows whether the row stands.
	if err != nil || a.over() {
		a.remove()
		if reported := a.report(ctx, webhooks.OnLeave); reported != nil {
			return nil, reported
		}
	}
	if err != nil {
		return nil, fmt.Errorf("connect device: %w", err)
	}
	return a, nil
}

// Attach puts a phone leg into its place. It is errs.Conflict when the participant has one. The leg hears nobody, and
// nobody hears it, until it is told who the participant is: Know.
func (s *Service) Attach(account, participant string, ep Endpoint) (*Attachment, error) {
	a := &Attachment{service: s, who: Participant{ID: participant, Account: account}, slot: PhoneSlot, endpoint: ep}
	if !s.place(a) {
		return nil, errs.New(errs.Conflict, "participant %q has a call already", participant)
	}
	return a, nil
}

// Know tells a phone leg whose it is. p has to be read after Attach: a change that was saved before did not see the leg.
// It is called once, before Publish.
func (a *Attachment) Know(p Participant) {
	a.service.mu.Lock()
	a.who = p
	a.service.mu.Unlock()
	a.service.apply(p)
}

// refresh reads the row once more: a change that was saved before the endpoint stood in the registry did not see it.
func (s *Service) refresh(ctx context.Context, p Participant) error {
	fresh, err := s.store.Participant(ctx, p.Account, p.ID)
	if err == nil {
		s.apply(fresh)
	}
	return err
}

// Participant is who the endpoint belongs to, as it was when the endpoint came.
func (a *Attachment) Participant() Participant { return a.who }

// Publish offers src to all who may hear it, now and later. A stream of a kind that the participant may not publish
// is not heard.
func (a *Attachment) Publish(src *media.Source) {
	for _, t := range src.Tracks {
		if !a.who.MayPublish(t.Kind) {
			a.service.log.Warn("a stream is not heard: its participant may not publish this kind",
				"participant", a.who.ID, "stream", src.Stream, "kind", t.Kind.String())
			return
		}
	}
	s := a.service
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.ended || slices.Contains(a.published, src) {
		return
	}
	a.published = append(a.published, src)
	s.settleRoomOf(a.who.ID)
}

// Unpublish takes src back.
func (a *Attachment) Unpublish(src *media.Source) {
	s := a.service
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(a.published, src); i >= 0 {
		a.published = slices.Delete(a.published, i, i+1)
		s.settleRoomOf(a.who.ID)
	}
}

// Leave ends a device's connection that it or we wanted to end: onLeave is written.
func (a *Attachment) Leave(ctx context.Context) error { return a.end(ctx, webhooks.OnLeave) }

// Lost ends a device's connection that broke: onDisconnect is written.
func (a *Attachment) Lost(ctx context.Context) error { return a.end(ctx, webhooks.OnDisconnect) }

// Detach takes a phone leg off. Its dialog reports the end.
func (a *Attachment) Detach() { a.remove() }

func (a *Attachment) end(ctx context.Context, how webhooks.Name) error {
	turn, ok := a.leave()
	if !ok {
		return nil
	}
	turn.wait()
	defer turn.end()
	return a.report(ctx, how)
}

// report writes the end of a device's connection: now, or as soon as the database takes it. An end is never lost.
func (a *Attachment) report(ctx context.Context, how webhooks.Name) error {
	e := end{connection: a.connection.ID, event: a.event(how)}
	if err := a.service.writeEnd(ctx, e); err != nil {
		a.service.owe(e)
		return fmt.Errorf("write %s of participant %s: %w", how, a.who.ID, err)
	}
	return nil
}

func (a *Attachment) event(name webhooks.Name) webhooks.Event {
	e := eventFor(a.who, name)
	e.Device = a.connection.Device
	return e
}

func eventFor(p Participant, name webhooks.Name) webhooks.Event {
	return webhooks.Event{
		Account: p.Account, URL: p.CallbackURL, Name: name, Time: time.Now(), Participant: p.ID, Tag: p.Tag,
	}
}
