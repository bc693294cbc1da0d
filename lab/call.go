package lab

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"
)

// Status is how a call stands or ended.
type Status struct {
	Answered bool   // a 200 was sent or received
	Ended    bool   // nothing more will happen
	ByFarEnd bool   // the far end's BYE, CANCEL or refusal ended it
	Code     int    // the last SIP status of the INVITE, in either direction
	Reason   string // its phrase, or what else ended the call
}

// Call is one call of the trunk, in or out. Its methods are safe from any goroutine.
type Call struct {
	Inbound    bool   // the gateway called us
	Number     string // the user part of the Request-URI
	From, To   string // the URIs of the headers
	CallID     string
	UserToUser string // the header's value as it came in or was sent (RFC 7433)

	request *sip.Request // the INVITE; read only
	log     *slog.Logger
	stream  *stream
	sdpID   uint32
	laws    []law
	done    chan struct{}
	ended   chan struct{} // closed by end: signalling is over, media stops
	leg     leg

	op sync.Mutex // one signalling step at a time; held over I/O

	mu         sync.Mutex // guards all below
	status     Status
	endBye     context.CancelFunc // of the BYE that waits for an answer, or did
	byUs       bool               // we began to end it, whatever the dialog reports meanwhile
	streaming  bool
	sdpVersion int
	workers    sync.WaitGroup
}

// leg is the SIP dialog of a call: one implementation for each direction.
type leg interface {
	respond(code int, reason string, body []byte) error // inbound only
	bye(ctx context.Context) error
	abandon() // inbound only: no ACK is waited for any more
	readAck(req *sip.Request, tx sip.ServerTransaction) error
	readBye(req *sip.Request, tx sip.ServerTransaction) error
	readInvite(req *sip.Request, tx sip.ServerTransaction) error
}

// Done is closed when the call is over and its ports are free.
func (c *Call) Done() <-chan struct{} { return c.done }

// Ended is closed as soon as either side has ended the call, before its ports are free.
func (c *Call) Ended() <-chan struct{} { return c.ended }

// Status tells how the call stands.
func (c *Call) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.status
}

// Header returns the value of a header of the INVITE; empty: it isn't there.
func (c *Call) Header(name string) string {
	if h := c.request.GetHeader(name); h != nil {
		return h.Value()
	}
	return ""
}

// Packets counts the RTP packets of the call so far.
func (c *Call) Packets() (sent, received int64) {
	return c.stream.sent.Load(), c.stream.received.Load()
}

// Play sends samples (8 kHz) after what is still waiting; at most ten minutes wait. It doesn't block.
func (c *Call) Play(samples []int16) { c.stream.queuePlay(samples) }

// SetSource sends what f gives whenever nothing of Play is waiting; nil: silence.
func (c *Call) SetSource(f Source) { c.stream.setSource(f) }

// Echo sends every packet back as it comes in, keys included, instead of audio of our own.
func (c *Call) Echo() { c.stream.setEcho() }

// Recorded returns what was received so far (8 kHz), laid out by RTP timestamp, zeros where packets are missing. It is
// bounded by Config.RecordLimit.
func (c *Call) Recorded() []int16 { return c.stream.recorder.recorded() }

// Keys delivers each key that the far end pressed (RFC 4733) once. It is closed when the call is over; keys that
// nobody reads are dropped after 256.
func (c *Call) Keys() <-chan byte { return c.stream.keys }

// SendKeys queues keys (0-9 * # A-D), each 100 ms long (RFC 4733). It doesn't wait until they are sent.
func (c *Call) SendKeys(keys string) error {
	events, ok := keyEvents(keys)
	if !ok {
		return fmt.Errorf("lab: %q has something that isn't a key", keys)
	}
	return c.stream.queueKeys(events)
}

// Ring sends 180. Inbound calls only, as the four after it.
func (c *Call) Ring() error { return c.provisional(sip.StatusRinging, "Ringing", false) }

// EarlyMedia sends 183 with our SDP and starts the audio.
func (c *Call) EarlyMedia() error {
	return c.provisional(sip.StatusSessionInProgress, "Session Progress", true)
}

// Answer sends 200 and returns when the ACK is here.
func (c *Call) Answer() error {
	c.op.Lock()
	defer c.op.Unlock()
	if err := c.open(); err != nil {
		return err
	}
	c.startMedia()
	c.setCode(sip.StatusOK, "OK")
	if err := c.leg.respond(sip.StatusOK, "OK", c.localSDP()); err != nil {
		c.end(true, "no ACK")
		return fmt.Errorf("lab: answer: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status.Answered = true
	return nil
}

// Reject sends a final refusal and ends the call.
func (c *Call) Reject(code int, reason string) error {
	c.op.Lock()
	defer c.op.Unlock()
	if err := c.open(); err != nil {
		return err
	}
	c.setCode(code, reason)
	c.endByUs()
	err := c.leg.respond(code, reason, nil)
	c.end(false, "")
	return err
}

// Hangup ends the call: BYE when it was answered, else 480. A call that is over stays so. A BYE is sent again until the
// far end answers, for half a minute (RFC 3261 §17.1.2.2); that the trunk closes cuts this short.
func (c *Call) Hangup() error { return c.hangup(context.Background()) }

func (c *Call) hangup(ctx context.Context) error {
	c.op.Lock()
	s := c.Status()
	if s.Ended {
		c.op.Unlock()
		return nil
	}
	if !s.Answered {
		c.op.Unlock()
		return c.Reject(sip.StatusTemporarilyUnavailable, "Temporarily Unavailable")
	}
	defer c.op.Unlock()
	defer c.end(false, "hung up")
	ctx, cancel := context.WithTimeout(ctx, byeTime)
	defer cancel()
	c.mu.Lock()
	c.byUs, c.endBye = true, cancel
	c.mu.Unlock()
	if err := c.leg.bye(ctx); err != nil {
		return fmt.Errorf("lab: hang up: %w", err)
	}
	return nil
}

// abandon ends the wait for an ACK that may never come: half a minute, during which Answer lets nobody hang up.
func (c *Call) abandon() {
	if s := c.Status(); s.Code == sip.StatusOK && !s.Answered {
		c.leg.abandon()
	}
}

// stopBye ends the wait for the answer to a BYE, if one was sent.
func (c *Call) stopBye() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.endBye != nil {
		c.endBye()
	}
}

func (c *Call) provisional(code int, reason string, media bool) error {
	c.op.Lock()
	defer c.op.Unlock()
	if err := c.open(); err != nil {
		return err
	}
	c.setCode(code, reason)
	var body []byte
	if media {
		c.startMedia()
		body = c.localSDP()
	}
	return c.leg.respond(code, reason, body)
}

// open says whether the INVITE is still ours to answer.
func (c *Call) open() error {
	s := c.Status()
	if !c.Inbound || s.Answered || s.Ended {
		return fmt.Errorf("lab: this call can't be answered or refused now (status %+v)", s)
	}
	return nil
}

func (c *Call) setCode(code int, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status.Code, c.status.Reason = code, reason
}

// localSDP is our answer to what the far end offered; while it hasn't, our offer.
func (c *Call) localSDP() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sdpVersion++
	return writeSDP(c.stream.local, c.sdpID, c.sdpVersion, c.laws, c.stream.media.Load())
}

// remoteSDP takes the far end's SDP; an empty one changes nothing.
func (c *Call) remoteSDP(body []byte) error {
	if len(body) == 0 {
		return nil
	}
	a, err := readSDP(body)
	if err != nil {
		return err
	}
	c.stream.media.Store(&a)
	return nil
}

// startMedia starts the two goroutines of the stream, once. The agreement must be stored before.
func (c *Call) startMedia() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.streaming || c.status.Ended || c.stream.media.Load() == nil {
		return
	}
	c.streaming = true
	c.workers.Go(func() { c.stream.send(c.ended) })
	c.workers.Go(c.stream.receive)
}

// end marks the call as over, once, and stops what it sends. It never blocks.
func (c *Call) end(byFarEnd bool, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.status.Ended {
		return
	}
	c.status.Ended, c.status.ByFarEnd = true, byFarEnd && !c.byUs
	if reason != "" {
		c.status.Reason = reason
	}
	close(c.ended)
}

func (c *Call) endByUs() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.byUs = true
}

// release frees what the call holds after it has ended, and waits for its goroutines.
func (c *Call) release() {
	c.stream.close()
	c.workers.Wait()
	if !c.streaming { // else the receiving goroutine has closed it; after end none can start
		close(c.stream.keys)
	}
	close(c.done)
}

// byeTime bounds how long a BYE may take: a bit more than Timer F, 64×T1, which ends its transaction (RFC 3261
// §17.1.2.2). A far end that never got it would keep the call.
const byeTime = 33 * time.Second
