package sounds

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"tandem/errs"
)

const (
	dialTimeout  = 5 * time.Second
	maxHeader    = 64 << 10
	maxRedirects = 3
	longestFresh = time.Hour // whatever a server promises
)

// prefix is what an address must begin with.
type prefix struct {
	scheme, host, hostname, path string // the path ends with a slash
}

func parsePrefix(raw string) (prefix, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return prefix{}, err
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || !plain(u) {
		return prefix{}, errors.New("no plain address")
	}
	p := u.Path
	if !strings.HasSuffix(p, "/") {
		p += "/"
	}
	return prefix{scheme: u.Scheme, host: hostPort(u), hostname: u.Hostname(), path: p}, nil
}

// hostPort is an address's host in small letters, with its port also where that is the scheme's own.
func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}

// plain says whether the path has no step upwards, however it is written, and nothing that a server could take for one.
func plain(u *url.URL) bool {
	if strings.ContainsAny(u.Path, "\\\x00") {
		return false
	}
	for step := range strings.SplitSeq(u.Path, "/") {
		if step == ".." || step == "." {
			return false
		}
	}
	return true
}

// allowed reads an address and checks that it may be fetched.
func (l *Library) allowed(name string) (*url.URL, error) {
	u, err := url.Parse(name)
	if err != nil || u.Host == "" {
		return nil, errs.New(errs.Invalid, "the sound's address is malformed")
	}
	if !l.permits(u) {
		return nil, errs.New(errs.Forbidden, "the sound %s is not below an address of sounds.allow", clip(shown(u)))
	}
	return u, nil
}

func (l *Library) permits(u *url.URL) bool {
	if u.User != nil || !plain(u) {
		return false
	}
	for _, p := range l.allow {
		if u.Scheme == p.scheme && hostPort(u) == p.host && (strings.HasPrefix(u.Path, p.path) || u.Path+"/" == p.path) {
			return true
		}
	}
	return false
}

// newClient makes a client that reaches allowed addresses only: each redirect is judged as the first address was, and
// each connection by the address to which the name led. It takes no proxy, which would connect without that.
func (l *Library) newClient() *http.Client {
	dialer := &net.Dialer{Timeout: dialTimeout, Control: l.mayConnect}
	return &http.Client{
		Transport: &http.Transport{
			DialContext: dialer.DialContext, TLSHandshakeTimeout: dialTimeout,
			// A few at a time from each server, each on its own connection (no HTTP/2): as many are in memory at most, and a
			// slow server keeps only its own sounds waiting.
			MaxConnsPerHost: decoders, MaxIdleConnsPerHost: decoders,
			MaxResponseHeaderBytes: maxHeader, IdleConnTimeout: time.Minute,
		},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects {
				return errs.New(errs.Unavailable, "the sound's server redirects too often")
			}
			if !l.permits(req.URL) {
				return errs.New(errs.Forbidden, "the sound's server redirects to %s, which is not below an address of sounds.allow", clip(shown(req.URL)))
			}
			return nil
		},
	}
}

// mayConnect refuses private addresses. It runs after the name was resolved.
func (l *Library) mayConnect(_, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return errs.Wrap(err, errs.Forbidden, "the sound's server has no address")
	}
	if a := to.Addr().Unmap().WithZone(""); !l.cfg.AllowPrivate && !l.literal[a] && private(a) {
		return errs.New(errs.Forbidden, "the sound's server has a private address; sounds.allowPrivate permits that")
	}
	return nil
}

// private says whether an address is of no use outside a network or a machine.
func private(a netip.Addr) bool {
	if !a.IsGlobalUnicast() || a.IsPrivate() {
		return true
	}
	for _, network := range []string{
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "198.18.0.0/15", "240.0.0.0/4",
		"::/96", "64:ff9b::/96", "64:ff9b:1::/48", "2001::/32", "2002::/16", "fec0::/10", // some lead to an IPv4 address
	} {
		if netip.MustParsePrefix(network).Contains(a) {
			return true
		}
	}
	return false
}

// fetch gets a sound, or says that old is still good. When the server fails, old is good too.
func (l *Library) fetch(ctx context.Context, u *url.URL, old *entry) (*entry, error) {
	if old != nil && time.Now().Before(old.version.fresh) {
		return old, nil
	}
	ctx, cancel := context.WithTimeout(ctx, l.cfg.Timeout)
	defer cancel()
	e, err := l.get(ctx, u, old)
	if err != nil && old != nil && errs.CodeOf(err) == errs.Unavailable {
		l.log.Warn("a sound can't be fetched again; the copy is played", "sound", shown(u), "error", err)
		return old, nil
	}
	return e, err
}

func (l *Library) get(ctx context.Context, u *url.URL, old *entry) (*entry, error) {
	what := "the sound " + clip(shown(u))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, errs.New(errs.Invalid, "%s has a malformed address", what)
	}
	req.Header.Set("User-Agent", "Tandem")
	req.Header.Set("Accept", "audio/wav, audio/ogg, */*;q=0.1")
	if old != nil && old.version.etag != "" {
		req.Header.Set("If-None-Match", old.version.etag)
	} else if old != nil && old.version.since != "" {
		req.Header.Set("If-Modified-Since", old.version.since)
	}
	resp, err := l.client.Do(req)
	if err != nil {
		if ours, ok := errors.AsType[*errs.Error](err); ok {
			return nil, ours
		}
		if failure, ok := errors.AsType[*url.Error](err); ok {
			err = failure.Err // the rest quotes the address
		}
		return nil, errs.Wrap(err, errs.Unavailable, "%s can't be fetched", what)
	}
	defer func() { _ = resp.Body.Close() }()
	now := version{etag: resp.Header.Get("ETag"), since: resp.Header.Get("Last-Modified"), fresh: time.Now().Add(l.freshness(resp.Header))}
	switch {
	case resp.StatusCode == http.StatusNotModified && old != nil:
		kept := *old
		kept.version.fresh = now.fresh
		return &kept, nil
	case resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusGone:
		return nil, errs.New(errs.NotFound, "%s does not exist", what)
	case resp.StatusCode != http.StatusOK:
		return nil, errs.New(errs.Unavailable, "%s can't be fetched: its server answers %d", what, resp.StatusCode)
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, l.cfg.MaxBytes+1))
	if err != nil {
		return nil, errs.Wrap(err, errs.Unavailable, "%s broke off while it was fetched", what)
	}
	if int64(len(raw)) > l.cfg.MaxBytes {
		return nil, errs.New(errs.Invalid, "%s has more than the %d bytes that are allowed", what, l.cfg.MaxBytes)
	}
	free, err := l.slot(ctx)
	if err != nil {
		return nil, err
	}
	defer free()
	samples, err := l.decoded(what, raw)
	if err != nil {
		return nil, err
	}
	return &entry{samples: samples, version: now}, nil
}

// freshness is how long an answer need not be asked for again (RFC 9111 §5.2.2).
func (l *Library) freshness(h http.Header) time.Duration {
	for directive := range strings.SplitSeq(h.Get("Cache-Control"), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		switch strings.ToLower(name) {
		case "no-store", "no-cache":
			return 0
		case "max-age":
			if seconds, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 31); err == nil {
				return min(time.Duration(seconds)*time.Second, longestFresh)
			}
		}
	}
	return l.cfg.Fresh
}

// CheckAllow is nil for what Config.Allow may hold.
func CheckAllow(raw string) error {
	if _, err := parsePrefix(raw); err != nil {
		return fmt.Errorf("%q should be an http or https address, such as https://app.example.com/", raw)
	}
	return nil
}
