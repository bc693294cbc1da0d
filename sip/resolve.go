package sip

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"
)

const (
	maxHops       = 32               // addresses that one call tries
	maxTargets    = 16               // SRV records whose addresses are asked for
	maxAnswers    = 4096             // that are remembered
	maxTTL        = time.Hour        // an answer is believed no longer
	noAnswerTTL   = 30 * time.Second // how long it is believed that there is no such record
	failedHopTime = time.Minute      // a hop that failed is tried last for so long

	insteadTime = 2500 * time.Millisecond // for a question without whose answer others may still lead somewhere
	restTime    = time.Second             // for what is still asked when something else was found
)

// recordType is a type of DNS record that SIP asks for (RFC 3263).
type recordType uint16

const (
	typeA     recordType = 1
	typeAAAA  recordType = 28
	typeSRV   recordType = 33
	typeNAPTR recordType = 35
)

// answer is what the DNS says of one name and type; no record at all is an answer too.
type answer struct {
	addrs  []netip.Addr
	srvs   []srv
	naptrs []naptr
	ttl    time.Duration
}

type srv struct {
	priority, weight, port uint16
	target                 string
}

type naptr struct {
	order, preference           uint16
	flags, service, replacement string
}

// dns asks one question. An error means that nobody answered, not that there is no such record.
type dns interface {
	lookup(ctx context.Context, name string, kind recordType) (answer, error)
}

// resolver finds where a SIP URI leads (RFC 3263), and remembers what it was told for as long as it may.
type resolver struct {
	dns  dns
	now  func() time.Time
	draw func(n int) int // a random number in 0..n-1

	mu     sync.Mutex
	known  map[question]remembered
	failed map[hop]time.Time // hops that failed, until when they come last
}

type question struct {
	name string
	kind recordType
}

type remembered struct {
	answer
	until time.Time
}

func newResolver(dns dns) *resolver {
	return &resolver{dns: dns, now: time.Now, draw: rand.IntN, known: make(map[question]remembered), failed: make(map[hop]time.Time)}
}

// ask answers from memory, or asks the DNS.
func (r *resolver) ask(ctx context.Context, name string, kind recordType) (answer, error) {
	q := question{strings.ToLower(strings.TrimSuffix(name, ".")), kind}
	now := r.now()
	r.mu.Lock()
	known, ok := r.known[q]
	r.mu.Unlock()
	if ok && now.Before(known.until) {
		return known.answer, nil
	}
	a, err := r.dns.lookup(ctx, q.name, kind)
	if err != nil {
		if ok && now.Before(known.until.Add(maxTTL)) {
			return known.answer, nil // old is better than none (RFC 8767)
		}
		return answer{}, fmt.Errorf("resolve %s: %w", q.name, err)
	}
	ttl := min(a.ttl, maxTTL)
	if len(a.addrs)+len(a.srvs)+len(a.naptrs) == 0 {
		ttl = noAnswerTTL
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.known) >= maxAnswers {
		clear(r.known)
	}
	r.known[q] = remembered{a, now.Add(ttl)}
	return a, nil
}

// askBriefly is ask for a record without which others may do.
func (r *resolver) askBriefly(ctx context.Context, name string, kind recordType) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, insteadTime)
	defer cancel()
	return r.ask(ctx, name, kind)
}

// fail has a hop come last for a while; work takes that back.
func (r *resolver) fail(h hop) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.failed) >= maxAnswers {
		clear(r.failed)
	}
	r.failed[h] = r.now().Add(failedHopTime)
}

func (r *resolver) work(h hop) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.failed, h)
}

// failing says whether a hop failed lately.
func (r *resolver) failing(h hop) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now().Before(r.failed[h])
}

// sound puts the hops that failed lately behind the others.
func (r *resolver) sound(hops []hop) []hop {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	slices.SortStableFunc(hops, func(a, b hop) int {
		return cmp.Compare(btoi(now.Before(r.failed[a])), btoi(now.Before(r.failed[b])))
	})
	return hops
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// service is a place where a domain takes SIP: a name whose SRV records say where, over a transport.
type service struct{ network, name string }

// services that we can use, by the NAPTR service field (RFC 3263 §4.1, RFC 7118 §4.1 for WebSocket).
func networkOfService(field string) string {
	switch strings.ToUpper(field) {
	case "SIP+D2U":
		return networkUDP
	case "SIP+D2T":
		return networkTCP
	case "SIPS+D2T":
		return networkTLS
	case "SIP+D2W":
		return networkWS
	case "SIPS+D2W":
		return networkWSS
	}
	return ""
}

// serviceOf names the SRV records of a domain for a transport (RFC 3263 §4.2).
func serviceOf(network, domain string) service {
	prefix := map[string]string{
		networkUDP: "_sip._udp.", networkTCP: "_sip._tcp.", networkTLS: "_sips._tcp.", networkWS: "_sip._ws.", networkWSS: "_sips._ws.",
	}[network]
	return service{network, prefix + domain}
}

// hops lists where messages to uri go, in the order in which they are tried. Network is the transport where neither
// the URI nor the DNS says one.
func (r *resolver) hops(ctx context.Context, uri sip.Uri, network string) ([]hop, error) {
	host := hostOf(uri)
	wanted, err := transportOf(uri, "")
	if err != nil {
		return nil, err
	}
	if uri.Scheme == "sips" && !uri.UriParams.Has("transport") {
		wanted = "" // TLS, but how is for the DNS to say
	}
	otherwise := wanted
	if otherwise == "" {
		if otherwise, err = transportOf(uri, network); err != nil {
			return nil, err
		}
	}
	if _, err := netip.ParseAddr(host); err == nil || uri.Port != 0 {
		port := uri.Port
		if port == 0 {
			port = defaultPort(otherwise)
		}
		return r.addresses(ctx, otherwise, host, port)
	}
	services, failed := r.services(ctx, host, wanted, uri.Scheme == "sips")
	all, err := together(ctx, services, r.service)
	if len(all) > 0 {
		return all[:min(len(all), maxHops)], nil
	}
	all, last := r.addresses(ctx, otherwise, host, defaultPort(otherwise))
	if last != nil {
		return nil, errors.Join(failed, err, last)
	}
	return all, nil
}

// together finds for all places at once, and returns what there is in their order. A place where nothing is found, for
// whatever reason, is none as soon as another one has something: those that are late then have restTime left.
func together[place any](ctx context.Context, places []place, find func(context.Context, place) ([]hop, error)) ([]hop, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	found, failures := make([][]hop, len(places)), make([]error, len(places))
	done := make(chan int)
	for i, p := range places {
		go func() { // ends soon after ctx, and is waited for
			found[i], failures[i] = find(ctx, p)
			done <- i
		}()
	}
	var rest <-chan time.Time
	for left := len(places); left > 0; {
		select {
		case i := <-done:
			left--
			if len(found[i]) > 0 && rest == nil {
				rest = time.After(restTime)
			}
		case <-rest:
			cancel()
		}
	}
	return slices.Concat(found...), errors.Join(failures...)
}

// services lists the SRV names of a domain, the best first. What the NAPTR records say counts, and without any all are
// tried that we know; the error says why there are none, if it is not that they do not exist.
func (r *resolver) services(ctx context.Context, domain, wanted string, secure bool) ([]service, error) {
	if wanted != "" {
		return []service{serviceOf(wanted, domain)}, nil
	}
	told, err := r.askBriefly(ctx, domain, typeNAPTR)
	if chosen := choose(told.naptrs, secure); len(chosen) > 0 {
		return chosen, nil
	}
	if secure {
		return []service{serviceOf(networkTLS, domain)}, err
	}
	return []service{serviceOf(networkUDP, domain), serviceOf(networkTCP, domain), serviceOf(networkTLS, domain)}, err
}

// choose picks the NAPTR records that lead to SRV records for transports that we have, by order and preference. Those
// of a later order are kept for when all before fail.
func choose(records []naptr, secure bool) []service {
	usable := slices.DeleteFunc(slices.Clone(records), func(n naptr) bool {
		network := networkOfService(n.service)
		return network == "" || !strings.EqualFold(n.flags, "s") || n.replacement == "" ||
			(secure && network != networkTLS && network != networkWSS)
	})
	slices.SortStableFunc(usable, func(a, b naptr) int {
		return cmp.Or(cmp.Compare(a.order, b.order), cmp.Compare(a.preference, b.preference))
	})
	var chosen []service
	for _, n := range usable {
		if s := (service{networkOfService(n.service), n.replacement}); !slices.Contains(chosen, s) {
			chosen = append(chosen, s)
		}
	}
	return chosen
}

// service lists the hops of one SRV name; none when there is no such record.
func (r *resolver) service(ctx context.Context, s service) ([]hop, error) {
	told, err := r.askBriefly(ctx, s.name, typeSRV)
	if err != nil {
		return nil, err
	}
	records := slices.DeleteFunc(byWeight(told.srvs, r.draw), func(record srv) bool {
		return record.target == "" // RFC 2782: the service is decidedly not there
	})
	return together(ctx, records[:min(len(records), maxTargets)], func(ctx context.Context, record srv) ([]hop, error) {
		return r.addresses(ctx, s.network, record.target, int(record.port))
	})
}

// byWeight sorts SRV records by priority, and draws those of one priority by weight (RFC 2782).
func byWeight(records []srv, draw func(n int) int) []srv {
	left := slices.Clone(records)
	slices.SortStableFunc(left, func(a, b srv) int {
		return cmp.Or(cmp.Compare(a.priority, b.priority), cmp.Compare(btoi(a.weight > 0), btoi(b.weight > 0)))
	})
	ordered := make([]srv, 0, len(left))
	for len(left) > 0 {
		same, total := 0, 0
		for same < len(left) && left[same].priority == left[0].priority {
			total += int(left[same].weight)
			same++
		}
		i, sum, n := 0, int(left[0].weight), draw(total+1)
		for sum < n {
			i++
			sum += int(left[i].weight)
		}
		ordered = append(ordered, left[i])
		left = slices.Delete(left, i, i+1)
	}
	return ordered
}

// addresses lists all of a host's, IPv4 first.
func (r *resolver) addresses(ctx context.Context, network, host string, port int) ([]hop, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return []hop{{network, net.JoinHostPort(addr.Unmap().String(), strconv.Itoa(port))}}, nil
	}
	all, err := together(ctx, []recordType{typeA, typeAAAA}, func(ctx context.Context, kind recordType) (found []hop, err error) {
		told, err := r.ask(ctx, host, kind)
		for _, addr := range told.addrs {
			found = append(found, hop{network, netip.AddrPortFrom(addr.Unmap(), uint16(port)).String()})
		}
		return found, err
	})
	if len(all) > 0 {
		return all[:min(len(all), maxHops)], nil
	}
	if err == nil {
		err = fmt.Errorf("resolve %s: there is no such host", host)
	}
	return nil, err
}

// locate lists where messages to uri go, as far as this agent can send there.
func (a *Agent) locate(ctx context.Context, uri sip.Uri, network string) ([]hop, error) {
	ctx, cancel := context.WithTimeout(ctx, socketTimeout)
	defer cancel()
	all, err := a.resolver.hops(ctx, uri, network)
	if err != nil {
		return nil, err
	}
	reachable := slices.DeleteFunc(slices.Clone(all), func(h hop) bool {
		to, err := netip.ParseAddrPort(h.addr)
		return err != nil || (h.network == networkUDP && !a.sendsTo(to.Addr()))
	})
	if len(reachable) == 0 {
		return nil, fmt.Errorf("resolve %s: sip.listen has no udp:// address from which %s is reached", hostOf(uri), all[0].addr)
	}
	return a.resolver.sound(reachable), nil
}

// locateTrunk lists where messages to a trunk go, and notes under which address of ours it reaches us.
func (a *Agent) locateTrunk(ctx context.Context, t *trunk) ([]hop, error) {
	hops, err := a.locate(ctx, t.uri, networkUDP)
	if err == nil {
		hops, err = a.unclaimed(ctx, t, hops)
	}
	for _, h := range hops {
		if addr, err := netip.ParseAddrPort(h.addr); err == nil {
			a.facing.learn(addr.Addr(), t)
		}
	}
	return hops, err
}

// sendsTo says whether a UDP listener is of the family of an address.
func (a *Agent) sendsTo(to netip.Addr) bool {
	return slices.ContainsFunc(a.listeners, func(l *listener) bool {
		from := l.addr.Addr().Unmap()
		return l.network == networkUDP && (from.Is4() == to.Is4() || (from.IsUnspecified() && from.Is6()))
	})
}
