// Package sounds finds what is played to phones: files of a folder, files behind allowed addresses, and tones. Whatever
// their format, they come out as 8 kHz mono.
package sounds

import (
	"container/list"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"tandem/errs"
)

// Rate is the rate of what comes out, in samples per second.
const Rate = 8000

// Config says what may be played. Of the limits a zero value means the default.
type Config struct {
	Folder       string   // names without a scheme are files below it; empty: there are none
	Allow        []string // http and https addresses may be fetched that begin with one of these
	AllowPrivate bool     // an allowed host name may lead to a private, loopback or link-local address

	MaxBytes   int64         // 10 MiB: of a file as it is stored
	MaxLength  time.Duration // 10 min: how long it may play
	CacheBytes int           // 64 MiB: of decoded sounds that are kept, with their names
	Fresh      time.Duration // 5 min: how long a fetched sound is not asked for again when its server says nothing
	Timeout    time.Duration // 10 s: how long fetching one may take
}

// decoders bounds how many sounds are read at a time.
const decoders = 4

// Library gives out sounds. Safe from any goroutine.
type Library struct {
	cfg     Config
	log     *slog.Logger
	root    *os.Root // nil: no folder
	allow   []prefix
	literal map[netip.Addr]bool // addresses that Allow names, which may be private
	client  *http.Client
	tones   map[string][]int16
	slots   chan struct{}

	mu      sync.Mutex
	busy    map[string]chan struct{} // names that are being read; closed when that is over
	entries map[string]*list.Element // of *entry
	order   *list.List               // the least used first
	bytes   int
}

// entry is a sound that is kept.
type entry struct {
	name    string
	samples []int16
	version version
}

// size is what an entry takes of the cache, about: an application can make up any number of names for a short sound.
func (e *entry) size() int {
	const rest = 512
	return 2*len(e.samples) + len(e.name) + len(e.version.etag) + len(e.version.since) + rest
}

// version says which file or answer a sound was made of.
type version struct {
	modified time.Time // of a file
	size     int64     // of a file
	etag     string
	since    string    // Last-Modified
	fresh    time.Time // a fetched one is not asked for again before this
}

// New opens the folder. An error is errs.Invalid and names the configuration's key. Close must be called.
func New(cfg Config, log *slog.Logger) (*Library, error) {
	defaults(&cfg)
	l := &Library{
		cfg: cfg, log: log, literal: map[netip.Addr]bool{}, tones: tones(), slots: make(chan struct{}, decoders),
		busy: map[string]chan struct{}{}, entries: map[string]*list.Element{}, order: list.New(),
	}
	for i, raw := range cfg.Allow {
		p, err := parsePrefix(raw)
		if err != nil {
			return nil, errs.Wrap(err, errs.Invalid, "sounds.allow[%d]: %q should be an http or https address, such as https://app.example.com/", i, raw)
		}
		l.allow = append(l.allow, p)
		if a, err := netip.ParseAddr(p.hostname); err == nil {
			l.literal[a.Unmap()] = true
		}
	}
	if cfg.Folder != "" {
		root, err := os.OpenRoot(cfg.Folder)
		if err != nil {
			return nil, errs.Wrap(err, errs.Invalid, "sounds.folder: %q can't be opened", cfg.Folder)
		}
		l.root = root
	}
	l.client = l.newClient()
	return l, nil
}

func defaults(cfg *Config) {
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = 10 << 20
	}
	if cfg.MaxLength == 0 {
		cfg.MaxLength = 10 * time.Minute
	}
	if cfg.CacheBytes == 0 {
		cfg.CacheBytes = 64 << 20
	}
	if cfg.Fresh == 0 {
		cfg.Fresh = 5 * time.Minute
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 10 * time.Second
	}
}

// Close lets go of the folder and of idle connections.
func (l *Library) Close() error {
	l.client.CloseIdleConnections()
	if l.root == nil {
		return nil
	}
	return l.root.Close()
}

// Sound returns 8 kHz mono samples, which must not be changed. name is a file below the folder, an allowed address, or
// a tone ("tone:ringback"). The error's code says what is wrong: errs.NotFound, errs.Forbidden for what is not allowed,
// errs.Invalid for a file that can't be played, errs.Unavailable when a server does not answer.
func (l *Library) Sound(ctx context.Context, name string) ([]int16, error) {
	if tone, ok := strings.CutPrefix(name, tonePrefix); ok {
		if samples := l.tones[tone]; samples != nil {
			return samples, nil
		}
		return nil, errs.New(errs.NotFound, "there is no tone %q; there are %s", tone, toneNames())
	}
	find := l.file
	if strings.Contains(name, "://") {
		u, err := l.allowed(name)
		if err != nil {
			return nil, err
		}
		find = func(ctx context.Context, _ string, old *entry) (*entry, error) { return l.fetch(ctx, u, old) }
	}
	// Whoever wants the same at the same time waits, and finds it in the cache.
	leave, err := l.enter(ctx, name)
	if err != nil {
		return nil, errs.Wrap(err, errs.Unavailable, "the sound was given up")
	}
	defer leave()
	e, err := find(ctx, name, l.look(name))
	if err != nil {
		return nil, err
	}
	e.name = name
	l.keep(e)
	return e.samples, nil
}

// enter waits until nobody else reads name.
func (l *Library) enter(ctx context.Context, name string) (leave func(), err error) {
	for {
		l.mu.Lock()
		other, ok := l.busy[name]
		if !ok {
			mine := make(chan struct{})
			l.busy[name] = mine
			l.mu.Unlock()
			return func() {
				l.mu.Lock()
				delete(l.busy, name)
				l.mu.Unlock()
				close(mine)
			}, nil
		}
		l.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// look returns what is kept under a name, or nil.
func (l *Library) look(name string) *entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := l.entries[name]
	if at == nil {
		return nil
	}
	l.order.MoveToBack(at)
	e, _ := at.Value.(*entry)
	return e
}

// keep puts e into the cache and lets the least used go that have no room.
func (l *Library) keep(e *entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if old := l.entries[e.name]; old != nil {
		l.drop(old)
	}
	size := e.size()
	if size > l.cfg.CacheBytes {
		return
	}
	for l.bytes+size > l.cfg.CacheBytes {
		l.drop(l.order.Front())
	}
	l.entries[e.name] = l.order.PushBack(e)
	l.bytes += size
}

// drop forgets an entry. l.mu is held.
func (l *Library) drop(at *list.Element) {
	e, _ := l.order.Remove(at).(*entry)
	delete(l.entries, e.name)
	l.bytes -= e.size()
}

// slot waits until a file may be read and decoded: a few at a time.
func (l *Library) slot(ctx context.Context) (free func(), err error) {
	select {
	case l.slots <- struct{}{}:
		return func() { <-l.slots }, nil
	case <-ctx.Done():
		return nil, errs.Wrap(ctx.Err(), errs.Unavailable, "the sound was given up")
	}
}

// decoded decodes a file. The caller has a slot.
func (l *Library) decoded(what string, raw []byte) ([]int16, error) {
	samples, err := decode(raw, int(l.cfg.MaxLength.Seconds()*Rate))
	if err != nil {
		return nil, errs.New(errs.Invalid, "%s can't be played: %s", what, err)
	}
	return samples, nil
}

// decode makes 8 kHz mono of a file, at most limit samples.
func decode(raw []byte, limit int) ([]int16, error) {
	switch {
	case len(raw) >= 4 && string(raw[:4]) == "RIFF":
		return decodeWAV(raw, limit)
	case len(raw) >= 4 && string(raw[:4]) == "OggS":
		return decodeOgg(raw, limit)
	}
	return nil, fmt.Errorf("it should be WAV or Ogg/Opus")
}

// errTooLong is what more than limit samples are answered with.
func errTooLong(limit int) error {
	return fmt.Errorf("it is longer than %s", time.Duration(limit)*time.Second/Rate)
}

// shown is the part of an address that may be told: its query may hold a secret.
func shown(u *url.URL) string { return u.Scheme + "://" + u.Host + u.Path }
