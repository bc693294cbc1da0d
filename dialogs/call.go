package dialogs

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"tandem/media"
	"tandem/sessions"
	"tandem/transcode"
	"tandem/trunks"
)

// call is a dialog that lives. One goroutine, run, owns it; as the participant's endpoint it only posts.
type call struct {
	service    *Service
	account    string
	id         string
	attachment *sessions.Attachment // set before run, or by run for an inbound call

	asks       chan ask
	keys       chan *media.Key     // pointers, since most calls send none
	answerers  chan media.Answerer // who answered, and the beep
	quiets     chan *quiet         // that the far end sends nothing
	detect     bool                // owned by run: the application wants to know who answers
	inbox      chan func()         // what others found out for the call; its goroutine does it
	nudged     chan struct{}       // has a value when played or room may have changed
	played     atomic.Int64        // the number of the sound that was played to its end last
	broken     chan struct{}       // has a value when its media failed
	loads      sync.WaitGroup
	loading    context.Context //nolint:containedctx // of what loads; ended by run
	endLoading context.CancelFunc
	awaits     []string      // events that the application may answer, the latest last; guarded by Service.mu
	closing    chan struct{} // closed once by Close: the participant is gone
	stops      chan struct{} // closed once by stop: the gateway stops
	done       chan struct{} // closed by forget: nobody is asked any more

	closeOnce, stopOnce sync.Once

	line  atomic.Pointer[Leg] // where keys go by SIP INFO
	owned []Leg               // all legs that it ever had; guarded by Service.mu

	// owned by run
	d                 Dialog
	leg               Leg
	place             *trunks.Place    // taken when the dialog was created; the leg's once it is dialled
	events            <-chan *LegEvent // of leg; nil when it has none any more
	aim               *aim             // the transfer that is under way; nil: none
	guest             *guest           // whom the gateway joined the far end with (ModeBridge); nil: nobody
	old               Leg              // a leg that was replaced and is to end soon; nil: none
	wait, part        alarm            // of the transfer; of old
	wishesHold        *bool            // what the application asked for last, while the far end has not answered; nil: nothing
	caller            *caller          // it came in to a number; nil: it did not
	refusal           int              // the status with which it is refused while it rings; 0: 603
	early             bool             // the caller was told to listen before the answer
	waits             time.Duration    // how long the application may take
	patience, typing  alarm            // with the application; with who types
	gather            *gathering       // several keys that the application asked for; nil: none
	fore              *playing         // what the phone is to hear instead of its session; nil: nothing
	music             *playing         // what it is to hear while it waits; nil: not looked for yet
	heard             *playing         // what the bridge plays; nil: nothing
	sounds            int64            // counts what was played
	later             []func()         // what is to be done next
	backlog           []change         // saves that the database did not take yet, in order
	lastTries         int              // attempts to save after the end
	told              bool             // the end is saved, or waits in the backlog
	ring, talk, retry alarm

	// the media side; subscriptions that come before there is a bridge wait for it
	mu      sync.Mutex
	bridge  *transcode.Bridge
	hears   []*media.Source
	silent  map[*media.Source]bool // those without sound
	room    string                 // the session that the participant is in; empty: none
	wasIn   bool                   // it was in one
	arrived bool                   // it came into one, and what it hears has not followed yet
	apart   bool                   // the phone hears nothing of its session: it is on hold, or joined with somebody else
}

// ask is a request, of the application or of another call, that the call's goroutine does and answers.
type ask struct {
	do    func() (Dialog, error)
	reply chan answer
}

type answer struct {
	d   Dialog
	err error
}

// inboxWaiting is how much may wait for a call's goroutine before those who bring it wait too.
const inboxWaiting = 4

func (s *Service) newCall(d Dialog) *call {
	c := &call{
		service: s, account: d.Account, id: d.ID, d: d,
		inbox:     make(chan func(), inboxWaiting),
		nudged:    make(chan struct{}, 1),
		asks:      make(chan ask),
		keys:      make(chan *media.Key, keysWaiting),
		answerers: make(chan media.Answerer, 2),
		quiets:    make(chan *quiet, 2),
		closing:   make(chan struct{}),
		stops:     make(chan struct{}),
		done:      make(chan struct{}),
		broken:    make(chan struct{}, 1),
	}
	c.loading, c.endLoading = newLoading()
	return c
}

// Subscribe lets the phone hear src, at once or as soon as it has media.
func (c *call) Subscribe(src *media.Source) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hears = append(c.hears, src)
	if c.bridge != nil && !c.apart {
		c.hear(src)
	}
}

// hear lets the bridge hear src. c.mu is held.
func (c *call) hear(src *media.Source) {
	if c.silent[src] {
		c.bridge.Mute(src, true)
	}
	c.bridge.Subscribe(src)
}

// Mute keeps the sound of src from the phone, or lets it through again.
func (c *call) Mute(src *media.Source, muted bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if muted {
		if c.silent == nil {
			c.silent = make(map[*media.Source]bool)
		}
		c.silent[src] = true
	} else {
		delete(c.silent, src)
	}
	if c.bridge != nil && !c.apart {
		c.bridge.Mute(src, muted)
	}
}

// Unsubscribe ends what Subscribe began.
func (c *call) Unsubscribe(src *media.Source) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, have := range c.hears {
		if have == src {
			c.hears = append(c.hears[:i:i], c.hears[i+1:]...)
			break
		}
	}
	delete(c.silent, src)
	if c.bridge != nil {
		c.bridge.Unsubscribe(src)
	}
}

// Close hangs up: the participant is gone.
func (c *call) Close(error) { c.closeOnce.Do(func() { close(c.closing) }) }

// stop hangs up: the gateway stops.
func (c *call) stop() { c.stopOnce.Do(func() { close(c.stops) }) }

// setBridge gives the phone what it was to hear before it had media.
func (c *call) setBridge(b *transcode.Bridge) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bridge = b
	if c.apart {
		return
	}
	for _, src := range c.hears {
		c.hear(src)
	}
}

// setApart takes the phone out of the sound of its session, or puts it back.
func (c *call) setApart(apart bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.apart == apart {
		return
	}
	c.apart = apart
	if c.bridge == nil {
		return
	}
	for _, src := range c.hears {
		if apart {
			c.bridge.Unsubscribe(src)
		} else {
			c.hear(src)
		}
	}
}
