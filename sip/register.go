package sip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"

	"tandem/trunks"
)

const (
	wantedExpiry    = 10 * time.Minute // what we ask for; the registrar has the last word
	maxExpiry       = 24 * time.Hour
	minRetry        = 2 * time.Second // the wait after the first failure; it doubles
	maxRetry        = 5 * time.Minute
	pathCheck       = 5 * time.Second // how often we look whether our Contact and connection are still the same
	unregisterLimit = 3 * time.Second

	lineParam = "line" // marks our Contact, so that calls to it are known as those of the trunk
)

// registration is what we have with one registrar (RFC 3261 §10.2). Its goroutine owns it.
type registration struct {
	agent  *Agent
	trunk  *trunk
	log    *slog.Logger
	callID string
	tag    string
	seq    uint32
	line   string

	at       hop      // where it was made; no address: nowhere
	contact  *sip.Uri // what is registered; nil: nothing
	until    time.Time
	wanted   time.Duration
	failures int
}

func newRegistration(a *Agent, t *trunk) *registration {
	return &registration{
		agent: a, trunk: t, log: a.log.With("trunk", t.Name), callID: sip.GenerateTagN(2 * tagLength),
		tag: sip.GenerateTagN(tagLength), line: sip.GenerateTagN(2 * tagLength), wanted: wantedExpiry,
	}
}

// run keeps the registration until stop ends, and takes it back then; ctx cuts that short.
func (r *registration) run(ctx, stop context.Context) {
	key, book := r.trunk.Key(), r.agent.book
	defer book.EndRegistration(key)
	r.agent.lines.add(r)
	defer r.agent.lines.remove(r)
	book.SetRegistration(key, trunks.Registering, time.Time{}, "")
	asked := book.Refreshes(key)
	check := time.NewTicker(pathCheck)
	defer check.Stop()
	silence := time.NewTimer(jittered(r.agent.cfg.keepUDP))
	defer silence.Stop()
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		select {
		case <-stop.Done():
			r.leave(ctx)
			return
		case <-silence.C:
			r.keepAlive()
			silence.Reset(jittered(r.agent.cfg.keepUDP))
			continue
		case <-asked:
			r.failures = 0
		case <-check.C:
			if !r.moved() {
				continue
			}
			r.log.Info("sip: registering again, for our address or connection has changed")
		case <-next.C:
		}
		next.Reset(r.renew(stop))
	}
}

// keepAlive sends a registrar over UDP what it needs not answer, lest a NAT before us forgets the way back: the double CRLF
// of RFC 5626 §4.4.1, for registrars know that over UDP too and few know the STUN of §4.4.2. It leaves from the socket from
// which the REGISTER left.
func (r *registration) keepAlive() {
	if r.contact == nil || r.at.network != networkUDP || time.Now().After(r.until) {
		return
	}
	to, err := netip.ParseAddrPort(r.at.addr)
	l := r.agent.own(networkUDP, r.at.addr)
	if err != nil || l == nil {
		return
	}
	if _, err := l.packet.WriteTo([]byte(ping), net.UDPAddrFromAddrPort(to)); err != nil {
		r.log.Debug("sip: the keep-alive was not sent", "address", r.at.addr, "error", err)
	}
}

// renew registers and returns when to do so again.
func (r *registration) renew(ctx context.Context) time.Duration {
	key, book := r.trunk.Key(), r.agent.book
	r.follow()
	fresh := r.contact == nil
	granted, err := r.register(ctx)
	if ctx.Err() != nil {
		return maxRetry // run leaves
	}
	if err == nil {
		if r.failures > 0 || fresh {
			r.log.Info("sip: registered", "at", r.at.addr, "expires", granted.String())
		}
		r.failures, r.until = 0, time.Now().Add(granted)
		book.SetRegistration(key, trunks.Registered, r.until, "")
		return refreshAfter(granted)
	}
	wait := backoff(r.agent.cfg.registerRetry, r.failures)
	if later, ok := errors.AsType[refusedFor](err); ok {
		wait = max(wait, min(later.wait, maxRetry))
	}
	r.failures++
	r.log.Warn("sip: registration failed", "error", err, "again", wait.Round(time.Millisecond).String())
	if time.Now().Before(r.until) { // the last one still holds
		book.SetRegistration(key, trunks.Registered, r.until, printable(err.Error(), 200))
		return min(wait, max(time.Until(r.until), minRetry))
	}
	r.contact = nil
	book.SetRegistration(key, trunks.Failed, time.Time{}, printable(err.Error(), 200))
	return wait
}

// follow takes what has changed of the trunk since. Where that is something that the registration was made with, mindTrunks
// has another one made.
func (r *registration) follow() {
	now := r.agent.book.Trunk(r.trunk.Key())
	if now == nil || !registersAlike(&r.trunk.Trunk, now) {
		return
	}
	if t, err := readTrunk(now); err == nil {
		r.trunk = t
	}
}

// refreshAfter leaves room for some failures before a registration expires.
func refreshAfter(granted time.Duration) time.Duration {
	return jittered(max(granted*3/4, granted/2))
}

// backoff doubles the wait, first at most, with every failure, and draws it from the upper half (RFC 5626 §4.5).
func backoff(first time.Duration, failures int) time.Duration {
	wait := maxRetry
	if failures < 10 {
		wait = min(first<<failures, maxRetry)
	}
	return wait - rand.N(wait/2)
}

// moved says whether what is registered leads here no longer: our address is another, or the connection is gone over
// which a registrar behind which we are not reached otherwise sends us calls.
func (r *registration) moved() bool {
	if r.contact == nil {
		return false
	}
	if r.at.network != networkUDP && !r.agent.streams.connected(r.at.network, r.at.addr, r.trunk.shows()) {
		return true
	}
	now := r.address(r.at)
	return now.Host != r.contact.Host || now.Port != r.contact.Port
}

// address is our Contact towards a hop.
func (r *registration) address(h hop) *sip.Uri {
	uri := r.agent.contact(h.network, h.addr).Address
	uri.User = r.trunk.Username
	if r.trunk.uri.Scheme == "sips" {
		uri.Scheme = "sips"
	}
	uri.UriParams = slices.Clone(uri.UriParams)
	uri.UriParams.Add(lineParam, r.line)
	return &uri
}

// refusedFor is a refusal that says when to come again.
type refusedFor struct {
	error
	wait time.Duration
}

// register makes or refreshes the registration at the first address of the trunk that takes it, and returns for how
// long it holds.
func (r *registration) register(ctx context.Context) (time.Duration, error) {
	hops, err := r.agent.locateTrunk(ctx, r.trunk)
	if err != nil {
		return 0, err
	}
	if i := slices.Index(hops, r.at); i > 0 && r.contact != nil { // where it is, it is refreshed
		hops = append([]hop{r.at}, slices.Delete(hops, i, i+1)...)
	}
	for _, h := range hops {
		var granted time.Duration
		var next bool
		granted, next, err = r.registerAt(ctx, h)
		if err == nil {
			r.agent.resolver.work(h)
			return granted, nil
		}
		if !next || ctx.Err() != nil {
			return 0, err
		}
		r.agent.resolver.fail(h)
	}
	return 0, err
}

// registerAt asks one registrar. Next says that another one may do better.
func (r *registration) registerAt(ctx context.Context, h hop) (granted time.Duration, next bool, err error) {
	contact := r.address(h)
	creds := &credentials{username: r.trunk.Username, password: r.trunk.Password, realm: r.trunk.Realm}
	if at, err := netip.ParseAddrPort(h.addr); err == nil {
		creds.own = ownedBy(r.trunk, []netip.Addr{at.Addr().Unmap()})
	}
	req := r.request(h, contact, r.wanted)
	for range maxChallenges + 2 {
		res, err := r.agent.ask(ctx, req, r.trunk.shows())
		if err != nil {
			return 0, true, fmt.Errorf("%s: %s", h.addr, describe(err))
		}
		refused := fmt.Errorf("%s: %d %s", h.addr, res.StatusCode, printable(res.Reason, 60))
		switch status := res.StatusCode; {
		case res.IsSuccess():
			r.at, r.contact = h, contact
			if creds.realm != "" {
				r.agent.realms.learn(r.trunk, creds.realm)
			}
			r.agent.lines.at(r, h)
			return grantedBy(res, contact, r.wanted), false, nil
		case status == sip.StatusUnauthorized || status == sip.StatusProxyAuthRequired:
			authorization, err := creds.answer(req, res)
			if err != nil {
				return 0, false, fmt.Errorf("%w: %w", refused, err)
			}
			for _, name := range []string{"Authorization", "Proxy-Authorization"} {
				for req.RemoveHeader(name) {
				}
			}
			req = r.agent.authorized(req, authorization)
			r.seq = req.CSeq().SeqNo
		case status == 423:
			least, ok := secondsOf(res, "Min-Expires")
			if !ok || least <= r.wanted || least > maxExpiry {
				return 0, false, refused
			}
			r.wanted = least
			req = r.request(h, contact, r.wanted)
		case status >= 300 && status < 400:
			return 0, true, fmt.Errorf("%w; a registrar elsewhere is not followed", refused)
		default:
			wait, ok := secondsOf(res, "Retry-After")
			if ok {
				refused = refusedFor{refused, wait}
			}
			return 0, status == sip.StatusServiceUnavailable || status == sip.StatusRequestTimeout || status == 500, refused
		}
	}
	return 0, false, fmt.Errorf("%s asks again and again", h.addr)
}

// request builds a REGISTER. A Contact of before that is another one is removed with it (RFC 3261 §10.2.2).
func (r *registration) request(h hop, contact *sip.Uri, expires time.Duration) *sip.Request {
	r.seq++
	req := r.agent.outside(sip.REGISTER, r.trunk, h, r.callID, r.tag, r.seq)
	whole := strconv.Itoa(int(expires / time.Second))
	req.AppendHeader(contactFor(*contact, whole))
	if r.contact != nil && r.contact.String() != contact.String() {
		req.AppendHeader(contactFor(*r.contact, "0"))
	}
	req.AppendHeader(sip.NewHeader("Expires", whole))
	req.AppendHeader(sip.NewHeader("Allow", allowed))
	return req
}

func contactFor(uri sip.Uri, expires string) *sip.ContactHeader {
	h := &sip.ContactHeader{Address: uri, Params: sip.NewParams()}
	h.Params.Add("expires", expires)
	return h
}

// leave takes the registration back.
func (r *registration) leave(ctx context.Context) {
	if r.contact == nil || time.Now().After(r.until) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, unregisterLimit)
	defer cancel()
	r.wanted = 0
	if _, _, err := r.registerAt(ctx, r.at); err != nil {
		r.log.Info("sip: taking the registration back failed", "error", err)
		return
	}
	r.agent.book.SetRegistration(r.trunk.Key(), trunks.Unregistered, time.Time{}, "")
}

// grantedBy reads for how long the registrar keeps our Contact (RFC 3261 §10.2.4).
func grantedBy(res *sip.Response, contact *sip.Uri, asked time.Duration) time.Duration {
	granted := asked
	if d, ok := secondsOf(res, "Expires"); ok {
		granted = d
	}
	line, _ := contact.UriParams.Get(lineParam)
	for _, h := range res.GetHeaders("Contact") {
		c, ok := h.(*sip.ContactHeader)
		if !ok {
			continue
		}
		theirs, _ := c.Address.UriParams.Get(lineParam)
		same := theirs == line || (theirs == "" && c.Address.User == contact.User &&
			strings.EqualFold(c.Address.Host, contact.Host) && c.Address.Port == contact.Port)
		value, ok := c.Params.Get("expires")
		if n, err := strconv.ParseUint(value, 10, 32); same && ok && err == nil {
			granted = time.Duration(n) * time.Second
		}
	}
	return min(max(granted, time.Second), maxExpiry)
}

// secondsOf reads a header that is a number of seconds, perhaps with a comment or parameters behind it.
func secondsOf(res *sip.Response, name string) (time.Duration, bool) {
	h := res.GetHeader(name)
	if h == nil {
		return 0, false
	}
	value := strings.TrimSpace(h.Value())
	end := strings.IndexFunc(value, func(r rune) bool { return r < '0' || r > '9' })
	if end >= 0 {
		value = value[:end]
	}
	n, err := strconv.ParseUint(value, 10, 32)
	return time.Duration(n) * time.Second, err == nil
}

// contactLines are the Contacts that we have registered, so that calls to them are known.
type contactLines struct {
	mu  sync.Mutex
	all map[string]lineOf
}

type lineOf struct {
	trunk trunks.Key
	from  netip.Addr // of the registrar; zero: not registered yet
}

func (l *contactLines) add(r *registration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all == nil {
		l.all = make(map[string]lineOf)
	}
	l.all[r.line] = lineOf{trunk: r.trunk.Key()}
}

func (l *contactLines) at(r *registration, h hop) {
	addr, _ := netip.ParseAddrPort(h.addr)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all[r.line] = lineOf{r.trunk.Key(), addr.Addr().Unmap()}
}

func (l *contactLines) remove(r *registration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.all, r.line)
}

// called names the trunk whose registrar sent a request to the Contact that we gave it; it is false where there is none.
// Both have to be right: a Contact can be overheard, and a registrar serves more than us.
func (l *contactLines) called(target sip.Uri, from netip.Addr) (trunks.Key, bool) {
	line, ok := target.UriParams.Get(lineParam)
	if !ok {
		return trunks.Key{}, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	known, ok := l.all[line]
	return known.trunk, ok && known.from == from.Unmap()
}

// lineCalled is the trunk of contactLines.called as it is now, nil if there is none.
func (a *Agent) lineCalled(target sip.Uri, from netip.Addr) *trunk {
	key, ok := a.lines.called(target, from)
	if !ok {
		return nil
	}
	t, err := readTrunk(a.book.Trunk(key))
	if err != nil {
		a.log.Error("sip: the trunk of a Contact", "trunk", key.Name, "error", err)
	}
	return t
}

// Registrations lists how the registrations with all trunks stand.
func (a *Agent) Registrations() map[trunks.Key]trunks.Registration { return a.book.Registrations() }

// ReloadCertificates reads the files of sip.tlsCert, tlsKey and tlsCA and the trunks' again. Connections that are up keep
// what they began with; an error changes nothing.
func (a *Agent) ReloadCertificates() error { return a.certs.load() }
