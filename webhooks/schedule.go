package webhooks

import (
	"container/heap"
	"time"
)

// lane is a participant that has, or may have, undelivered events. It is in one stage at a time, so its events are
// handled one after the other.
type lane struct {
	participant string
	stage       stage
	again       bool      // fetching: an event was written meanwhile
	troubles    int       // how often in a row the outbox failed
	taken       string    // the id of the event that the application took and the outbox could not mark
	due         time.Time // sleeping: until when
	index       int       // sleeping: where in the heap
	next        Delivery  // queued, posting: its oldest event
	endpoint    *endpoint // where its event goes or the one before went; nil: not known yet
}

type stage int

const (
	unread   stage = iota // waits for its event to be read
	fetching              // its event is being read
	queued                // waits for a place at its endpoint
	posting               // its event is under way
	sleeping              // waits for a time
)

// endpoint is one URL (without its query) of a host.
type endpoint struct {
	key     string
	host    *host
	lanes   int // that have their event queued or posting here, or had when last seen
	running int
	places  int // how many may run
	queue   []*lane
	listed  bool // in host.ready
}

// host bounds what its endpoints may have under way together.
type host struct {
	name      string
	running   int
	places    int
	misses    int         // requests in a row that had no answer
	ready     []*endpoint // with a queue and a free place
	listed    bool        // in schedule.ready
	endpoints map[string]*endpoint
}

// limits bound the requests under way.
type limits struct {
	endpoint, host span
	total          int
}

// span is how many places somebody unknown gets, and how many at most. Every answer earns one more.
type span struct{ first, most int }

// schedule decides whose turn it is, without I/O or a clock. Hosts take turns, and the endpoints of a host, so however
// many events wait for one that hangs, the next free place goes to another.
type schedule struct {
	limits  limits
	lanes   map[string]*lane
	unread  []*lane
	asleep  sleepers
	hosts   map[string]*host
	ready   []*host
	running int
}

func newSchedule(l limits) *schedule {
	return &schedule{limits: l, lanes: map[string]*lane{}, hosts: map[string]*host{}}
}

// poke notes that participant may have new events.
func (s *schedule) poke(participant string) {
	if l, ok := s.lanes[participant]; ok {
		l.again = true // matters only while it is being read; else the new event has older ones before it
		return
	}
	l := &lane{participant: participant}
	s.lanes[participant] = l
	s.read(l)
}

// read puts the lane where its next event is read.
func (s *schedule) read(l *lane) {
	l.stage, l.next = unread, Delivery{}
	s.unread = append(s.unread, l)
}

// nextRead takes a lane whose event shall be read now, or nil.
func (s *schedule) nextRead() *lane {
	if len(s.unread) == 0 {
		return nil
	}
	l := s.unread[0]
	s.unread = s.unread[1:]
	l.stage, l.again = fetching, false
	return l
}

// empty notes that a lane had no event when it was read.
func (s *schedule) empty(l *lane) {
	if l.again {
		s.read(l)
		return
	}
	s.detach(l)
	delete(s.lanes, l.participant)
}

// sleep lets the lane rest until due. Nothing of its event is kept.
func (s *schedule) sleep(l *lane, due time.Time) {
	l.stage, l.due, l.next = sleeping, due, Delivery{}
	heap.Push(&s.asleep, l)
}

// wakeUp lets all be read that slept until now, and returns how long the next one sleeps on, or ok false.
func (s *schedule) wakeUp(now time.Time) (rest time.Duration, ok bool) {
	for len(s.asleep) > 0 {
		if rest := s.asleep[0].due.Sub(now); rest > 0 {
			return rest, true
		}
		l, _ := heap.Pop(&s.asleep).(*lane)
		s.read(l)
	}
	return 0, false
}

// enqueue lets the lane wait for a place at its endpoint.
func (s *schedule) enqueue(l *lane, d Delivery, hostName, endpointKey string) {
	if e := l.endpoint; e == nil || e.key != endpointKey || e.host.name != hostName {
		s.detach(l)
		l.endpoint = s.endpoint(hostName, endpointKey)
		l.endpoint.lanes++
	}
	l.stage, l.next = queued, d
	l.endpoint.queue = append(l.endpoint.queue, l)
	s.list(l.endpoint)
}

func (s *schedule) endpoint(hostName, key string) *endpoint {
	h, ok := s.hosts[hostName]
	if !ok {
		h = &host{name: hostName, places: s.limits.host.first, endpoints: map[string]*endpoint{}}
		s.hosts[hostName] = h
	}
	e, ok := h.endpoints[key]
	if !ok {
		e = &endpoint{key: key, host: h, places: s.limits.endpoint.first}
		h.endpoints[key] = e
	}
	return e
}

// detach forgets an endpoint, and its host, when its last lane goes.
func (s *schedule) detach(l *lane) {
	e := l.endpoint
	if e == nil {
		return
	}
	l.endpoint = nil
	if e.lanes--; e.lanes > 0 {
		return
	}
	delete(e.host.endpoints, e.key)
	if len(e.host.endpoints) == 0 {
		delete(s.hosts, e.host.name)
	}
}

// list puts an endpoint and its host where turns are given, unless they are there or have no place.
func (s *schedule) list(e *endpoint) {
	if len(e.queue) > 0 && !e.listed && e.running < e.places {
		e.listed = true
		e.host.ready = append(e.host.ready, e)
	}
	if h := e.host; len(h.ready) > 0 && !h.listed && h.running < h.places {
		h.listed = true
		s.ready = append(s.ready, h)
	}
}

// nextPost takes a lane whose event shall be posted now, or nil.
func (s *schedule) nextPost() *lane {
	for s.running < s.limits.total && len(s.ready) > 0 {
		h := s.ready[0]
		s.ready, h.listed = s.ready[1:], false
		if h.running >= h.places {
			continue // it lost places after it was listed; posted lists it again
		}
		e := h.ready[0]
		h.ready, e.listed = h.ready[1:], false
		if e.running >= e.places {
			s.list(e) // the same, for the endpoint; its host may have others
			continue
		}
		l := e.queue[0]
		e.queue = e.queue[1:]
		l.stage = posting
		s.running++
		h.running++
		e.running++
		s.list(e)
		return l
	}
	return nil
}

// posted gives the lane's place free. answered says whether there was an answer of any kind.
func (s *schedule) posted(l *lane, answered bool) {
	e, h := l.endpoint, l.endpoint.host
	s.running--
	e.running--
	h.running--
	if answered {
		h.misses = 0
		e.places = min(e.places+1, s.limits.endpoint.most)
		h.places = min(h.places+1, s.limits.host.most)
	} else {
		// An endpoint that hangs gets one request at a time. A host whose every endpoint hangs keeps two places: one for
		// such an endpoint and one for another to show that it is better.
		h.misses++
		e.places = 1
		if h.misses >= s.limits.host.first {
			h.places = min(2, s.limits.host.first)
		}
	}
	s.list(e)
}

// sleepers is a heap of lanes by due.
type sleepers []*lane

func (s sleepers) Len() int           { return len(s) }
func (s sleepers) Less(i, j int) bool { return s[i].due.Before(s[j].due) }
func (s sleepers) Swap(i, j int) {
	s[i], s[j] = s[j], s[i]
	s[i].index, s[j].index = i, j
}

// Push and Pop are for container/heap.
func (s *sleepers) Push(x any) {
	l, _ := x.(*lane)
	l.index = len(*s)
	*s = append(*s, l)
}

// Pop takes the last.
func (s *sleepers) Pop() any {
	old := *s
	l := old[len(old)-1]
	old[len(old)-1] = nil
	*s = old[:len(old)-1]
	return l
}
