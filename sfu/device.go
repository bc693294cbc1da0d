package sfu

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/pion/webrtc/v4"

	"tandem/errs"
	"tandem/media"
	"tandem/sessions"
)

const (
	inboxLimit = 1024             // commands; a device for which more wait is ended
	storeLimit = 10 * time.Second // how long one question to the store may take
)

// Device is one browser of a participant, for as long as it keeps coming back under the same uniqueId. It implements
// sessions.Endpoint; all its methods may be called from any goroutine and never block.
type Device struct {
	server      *Server
	participant sessions.Participant
	id          string // the client's uniqueId
	endpoint    string // what it is called in the protocol's endpointId
	log         *slog.Logger
	cancel      context.CancelCauseFunc
	done        chan struct{} // closed when the device is over
	media       sync.WaitGroup

	// in
	inboxMu  sync.Mutex
	inbox    []func()
	posted   chan struct{} // has a value when something is in it
	messages chan incoming

	// owned by run
	sock        *socket // nil while there is none
	membership  Membership
	publish     publisher
	subscribe   subscriber
	helloTimer  *time.Timer
	offerTimer  *time.Timer
	graceTimer  *time.Timer
	bandTimer   *time.Timer // it has lasted that 8 kHz are enough
	passthrough bool        // the session of its participant wants no codecs
	follows     bool        // the client offers when it gets offerWanted
	reconnect   *time.Timer // the subscribing connection is down: restart ICE
	patience    time.Duration
	state       webrtc.PeerConnectionState // of the subscribing connection
}

// incoming is a message, or the end of the socket that it came from.
type incoming struct {
	from *socket
	data []byte // nil: the socket is over
	err  error
}

func newDevice(s *Server, p sessions.Participant, id string, revision int) *Device {
	d := &Device{
		server: s, participant: p, id: id, endpoint: id,
		log:    s.log.With("participant", p.ID, "device", id),
		done:   make(chan struct{}),
		posted: make(chan struct{}, 1), messages: make(chan incoming),
		helloTimer: stoppedTimer(), offerTimer: stoppedTimer(), graceTimer: stoppedTimer(),
		bandTimer: stoppedTimer(), reconnect: stoppedTimer(),
	}
	d.publish.d, d.subscribe.d = d, d
	d.subscribe.revision = revision
	return d
}

func stoppedTimer() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}

// Subscribe lets the device receive src.
func (d *Device) Subscribe(src *media.Source) { d.post(func() { d.subscribe.add(src) }) }

// Unsubscribe ends that.
func (d *Device) Unsubscribe(src *media.Source) { d.post(func() { d.subscribe.remove(src) }) }

// Mute keeps src's sound from the device, or lets it through again.
func (d *Device) Mute(src *media.Source, muted bool) {
	d.post(func() { d.subscribe.mute(src, muted) })
}

// StreamMuted tells the device that somebody whom it hears was muted, or itself: once for each stream that is concerned,
// and once without a stream when there is none. It implements sessions.Observer.
func (d *Device) StreamMuted(c sessions.MuteChange) {
	d.post(func() {
		n := muteNotification{ParticipantID: c.Participant, Muted: c.Muted, Subscriber: c.Subscriber}
		endpoints := d.subscribe.voices(c.Participant, c.Source)
		if c.Participant == d.participant.ID {
			endpoints = d.publish.voices()
		}
		if len(endpoints) == 0 {
			endpoints = []string{""}
		}
		for _, n.EndpointID = range endpoints {
			d.notify("streamMuted", n)
		}
	})
}

// Close ends the device; it is told the cause in words and does not come back.
func (d *Device) Close(cause error) {
	if cause == nil {
		cause = errLeft
	}
	d.cancel(&ending{cause: cause, code: websocket.StatusNormalClosure, tell: true})
}

// DialogChanged tells the device of a dialog that it follows. It implements sessions.Observer.
func (d *Device) DialogChanged(c sessions.DialogChange) {
	d.post(func() {
		d.notify("dialogStateChange", dialogNotification{
			DialogID: c.Dialog, ParticipantID: c.Participant, State: c.State, To: c.To, From: c.From, Reason: c.Reason, Details: c.Details,
		})
	})
}

// post never blocks: a device that stopped draining its inbox is ended.
func (d *Device) post(command func()) {
	d.inboxMu.Lock()
	full := len(d.inbox) == inboxLimit
	if !full {
		d.inbox = append(d.inbox, command)
	}
	d.inboxMu.Unlock()
	if full {
		d.cancel(&ending{cause: errSlow, code: websocket.StatusNormalClosure, lost: true})
		return
	}
	select {
	case d.posted <- struct{}{}:
	default:
	}
}

// drain does all that waits, so that one offer has all of it. What comes meanwhile waits: the timers have a turn.
func (d *Device) drain() {
	d.inboxMu.Lock()
	commands := d.inbox
	d.inbox = nil
	d.inboxMu.Unlock()
	for _, command := range commands {
		command()
	}
}

// deliver hands a message of a socket in, and waits: the socket's peer feels it. False: the device is over.
func (d *Device) deliver(m incoming) bool {
	select {
	case d.messages <- m:
		return true
	case <-d.done:
		return false
	}
}

// listen hands in what a socket reads, until it is over. What fails there ends the device, and no other.
func (d *Device) listen(ctx context.Context, sock *socket) {
	defer d.survive()
	err := sock.serve(ctx, func(message []byte) bool { return d.deliver(incoming{from: sock, data: message}) })
	d.deliver(incoming{from: sock, err: err})
}

func (d *Device) run(ctx context.Context) {
	defer close(d.done)
	defer func() { d.teardown(ctx) }()
	defer d.survive()
	beat := time.NewTicker(d.server.cfg.Heartbeat)
	defer beat.Stop()
	d.helloTimer.Reset(d.server.cfg.HelloTimeout)
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			return
		case <-d.posted:
			d.drain()
		case m := <-d.messages:
			d.take(ctx, m)
		case <-d.helloTimer.C:
			d.end(errBeganAnew, false)
		case <-d.offerTimer.C:
			if !d.subscribe.unanswered() {
				d.end(errNoAnswer, true)
			}
		case <-d.graceTimer.C:
			d.end(errGrace, true)
		case <-d.bandTimer.C:
			d.publish.settleBand()
		case <-d.reconnect.C:
			d.restartICE()
		case <-beat.C:
			d.publish.peer.beat()
			d.subscribe.peer.beat()
		}
		if err := d.subscribe.negotiate(ctx); err != nil && ctx.Err() == nil {
			d.log.Error("the subscribing connection cannot be negotiated", "err", err)
			d.end(errs.Wrap(err, errs.Internal, "negotiation"), true)
		}
	}
}

// survive keeps a fault that one browser provoked from ending the calls of all others.
func (d *Device) survive() {
	if r := recover(); r != nil {
		d.log.Error("device failed", "panic", r, "stack", string(debug.Stack()))
		d.cancel(&ending{cause: fmt.Errorf("panic: %v", r), code: websocket.StatusNormalClosure, lost: true})
	}
}

// attend runs what reads a stream of the device. What fails there ends the device, and no other.
func (d *Device) attend(work func()) {
	d.media.Go(func() {
		defer d.survive()
		work()
	})
}

// end ends the device with a cause that the client is told.
func (d *Device) end(cause error, lost bool) {
	d.cancel(&ending{cause: cause, code: websocket.StatusNormalClosure, lost: lost, tell: true})
}

// attached makes sock the device's socket. Its changes since the last one go out in one offer.
func (d *Device) attached(sock *socket) {
	if d.sock != nil {
		d.sock.end(websocket.StatusNormalClosure, "replaced by a newer connection")
	}
	d.sock = sock
	d.graceTimer.Stop()
	d.subscribe.resume()
	d.publish.askForOffer() // the last one may have been lost
}

func (d *Device) take(ctx context.Context, m incoming) {
	if m.from != d.sock {
		d.drain() // it may be that of a socket that waits to be attached
	}
	if m.from != d.sock {
		return
	}
	if m.data != nil {
		d.handle(ctx, m.data)
		return
	}
	d.log.Debug("socket lost", "err", m.err)
	d.dropSocket()
}

func (d *Device) dropSocket() {
	d.sock = nil
	d.offerTimer.Stop()
	if d.membership == nil { // nothing is worth waiting for
		d.cancel(&ending{cause: errLeft, code: websocket.StatusNormalClosure})
		return
	}
	d.graceTimer.Reset(d.server.cfg.Grace)
}

func (d *Device) send(message []byte, err error) {
	if err != nil {
		d.log.Error("a message was not sent", "err", err)
		return
	}
	if d.sock != nil && !d.sock.send(message) {
		d.sock.end(websocket.StatusTryAgainLater, errSlowSocket.Error())
		d.dropSocket()
	}
}

func (d *Device) notify(method string, params any) { d.send(encodeNotification(method, params)) }

// teardown ends everything that the device had, in the order in which others notice.
func (d *Device) teardown(ctx context.Context) {
	d.server.forget(d, d.subscribe.revision)
	d.drain() // a socket may wait to be attached: it is closed with the others
	why, ok := errors.AsType[*ending](context.Cause(ctx))
	if !ok {
		why = &ending{cause: errRestart, code: websocket.StatusServiceRestart}
	}
	d.log.Info("device ends", "cause", why.cause, "lost", why.lost)
	if why.tell {
		d.send(encodeError(nil, rpcErrorOf(why.cause)))
	}
	if d.sock != nil {
		d.sock.end(why.code, "")
	}
	if d.membership != nil {
		for _, p := range d.publish.live {
			d.membership.Unpublish(p.source)
		}
		d.report(ctx, why.lost)
	}
	d.publish.live = nil
	d.publish.reset()
	d.subscribe.close()
	d.media.Wait()
}

func (d *Device) report(ctx context.Context, lost bool) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeLimit)
	defer cancel()
	write := d.membership.Leave
	if lost {
		write = d.membership.Lost
	}
	if err := write(ctx); err != nil {
		d.log.Error("the end of a device was not written", "err", err)
	}
}

// mayPublish says whether an m-line of the device's offer becomes a track.
func (d *Device) mayPublish(s section) bool { return s.sends && d.participant.MayPublish(s.kind) }
