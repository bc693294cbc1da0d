package sip

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/emiago/sipgo/sip"
	"github.com/icholy/digest"

	"tandem/trunks"
)

// maxChallenges is how many challenges one request answers: the first, and the stale ones after it.
const maxChallenges = 3

// anyRealm as the realm of a trunk says that it asks in the name of several.
const anyRealm = "*"

// credentials answers the challenges of one trunk for one request and its retries. Whoever the trunk connects us with can
// challenge a request too: its password is for itself, where that is known by address and realm.
type credentials struct {
	username string
	password Secret
	realm    string                // the trunk's; empty: the first that asks
	own      func(netip.Addr) bool // says whether an address is the trunk's; nil: that was seen to
	nonces   []string              // those that were answered
}

// credentials are those of the call's trunk, for a request within the dialog. It goes past the trunk to whoever it
// connected us with, so a realm that nobody named before is not trusted here, unless it is the trunk's own host.
func (c *call) credentials() *credentials {
	creds := c.firstCredentials()
	if creds.realm == "" && c.trunk != nil {
		creds.realm = c.trunk.uri.Host
	}
	return creds
}

// firstCredentials are those for an INVITE that begins a call, which may be asked in a realm not known yet.
func (c *call) firstCredentials() *credentials {
	if c.trunk == nil {
		return &credentials{}
	}
	creds := &credentials{username: c.trunk.Username, password: c.trunk.Password, realm: c.agent.realms.of(c.trunk)}
	if creds.realm == "" {
		creds.realm = c.realm
	}
	creds.own = ownedBy(c.trunk, slices.Clone(c.hosts))
	return creds
}

// An allow network that is no larger than these is taken for the trunk's own site; a larger one has strangers in it.
const (
	ownBits4 = 24
	ownBits6 = 64
)

// ownedBy says of addresses whether they are those of a trunk: of its hosts, or of a small network that is allowed to it.
func ownedBy(t *trunk, hosts []netip.Addr) func(netip.Addr) bool {
	return func(addr netip.Addr) bool {
		addr = addr.Unmap()
		least := ownBits6
		if addr.Is4() {
			least = ownBits4
		}
		return slices.Contains(hosts, addr) ||
			slices.ContainsFunc(t.Allow, func(p netip.Prefix) bool { return p.Bits() >= least && p.Contains(addr) })
	}
}

// hostsOf lists the addresses of hops.
func hostsOf(hops []hop) []netip.Addr {
	var hosts []netip.Addr
	for _, h := range hops {
		if at, err := netip.ParseAddrPort(h.addr); err == nil {
			hosts = append(hosts, at.Addr().Unmap())
		}
	}
	return hosts
}

// callersHosts are the hosts of a caller's trunk. Its own address is one where it showed the trunk's password or is the
// registrar of the Contact that it called; where many may call in, only what the uri says is.
func (a *Agent) callersHosts(ctx context.Context, t *trunk, req *sip.Request, source netip.Addr) []netip.Addr {
	switch {
	case t == nil || t.Username == "":
		return nil // it gets no credentials anyway
	case t.InboundUsername != "" || a.lineCalled(req.Recipient, source) != nil:
		return []netip.Addr{source.Unmap()}
	case t.URI == "" || ownedBy(t, nil)(source):
		return nil
	}
	hops, err := a.locateTrunk(ctx, t)
	if err != nil {
		a.log.Info("sip: where a caller's trunk is was not found, so its challenges are not answered", "trunk", t.Name, "error", err)
	}
	return hostsOf(hops)
}

// realms remembers the realms of registrars: those of their trunks.
type realms struct {
	mu    sync.Mutex
	known map[trunks.Key]registrarRealm
}

type registrarRealm struct{ uri, realm string }

// learn notes a realm that took the trunk's password.
func (r *realms) learn(t *trunk, realm string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known == nil {
		r.known = make(map[trunks.Key]registrarRealm)
	}
	r.known[t.Key()] = registrarRealm{t.URI, realm}
}

// of is the realm of a trunk: what it is configured with, else its registrar's. It is empty where none is known.
func (r *realms) of(t *trunk) string {
	if t.Realm != "" {
		return t.Realm
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if known := r.known[t.Key()]; t.Register && known.uri == t.URI {
		return known.realm
	}
	return ""
}

// answer returns req's authorization header for the challenge in res. An error says why it is not answered.
func (c *credentials) answer(req *sip.Request, res *sip.Response) (sip.Header, error) {
	if c.username == "" {
		return nil, errors.New("the trunk asks for a password and none is configured")
	}
	if err := c.atHome(req.Destination()); err != nil {
		return nil, err
	}
	if err := c.atHome(res.Source()); err != nil { // over UDP anybody can send an answer
		return nil, err
	}
	ask, reply := "WWW-Authenticate", "Authorization"
	if res.StatusCode == sip.StatusProxyAuthRequired {
		ask, reply = "Proxy-Authenticate", "Proxy-Authorization"
	}
	challenge, err := c.choose(res.GetHeaders(ask))
	if err != nil {
		return nil, err
	}
	made, err := digest.Digest(challenge, digest.Options{
		Method: req.Method.String(), URI: req.Recipient.String(), Username: c.username, Password: string(c.password), Count: 1,
	})
	if err != nil {
		return nil, fmt.Errorf("answer challenge: %w", err)
	}
	if c.realm != anyRealm {
		c.realm = challenge.Realm
	}
	c.nonces = append(c.nonces, challenge.Nonce)
	return sip.NewHeader(reply, made.String()), nil
}

// atHome refuses an address that is not the trunk's.
func (c *credentials) atHome(hostport string) error {
	if c.own == nil {
		return nil
	}
	if at, err := netip.ParseAddrPort(hostport); err != nil || !c.own(at.Addr()) {
		return fmt.Errorf("%s asks for the password, which is no address of the trunk's uri, nor of a network of its allow of /%d (IPv6: /%d) or smaller",
			printable(hostport, 60), ownBits4, ownBits6)
	}
	return nil
}

// choose returns the challenge with the strongest algorithm of those that may be answered (RFC 8760).
func (c *credentials) choose(headers []sip.Header) (*digest.Challenge, error) {
	var best *digest.Challenge
	why := errors.New("the trunk's challenge is none that can be answered")
	for _, h := range headers {
		challenge, err := digest.ParseChallenge(h.Value())
		if err != nil {
			continue
		}
		for i := range challenge.QOP {
			challenge.QOP[i] = strings.TrimSpace(challenge.QOP[i])
		}
		if strength(challenge.Algorithm) == 0 || (len(challenge.QOP) > 0 && !challenge.SupportsQOP("auth")) {
			continue
		}
		if err := c.mayAnswer(challenge); err != nil {
			why = err
			continue
		}
		if best == nil || strength(challenge.Algorithm) > strength(best.Algorithm) {
			best = challenge
		}
	}
	if best == nil {
		return nil, why
	}
	return best, nil
}

// strength orders the algorithms that we have; 0: none of them.
func strength(algorithm string) int {
	switch strings.ToUpper(algorithm) {
	case "", "MD5":
		return 1
	case "SHA-256":
		return 2
	case "SHA-512-256":
		return 3
	}
	return 0
}

// mayAnswer refuses a nonce that was answered before (the password is wrong), a new one that is not called stale, and
// the challenge of a realm other than the trunk's: that would be someone behind the trunk who asks for its password.
func (c *credentials) mayAnswer(challenge *digest.Challenge) error {
	switch {
	case c.realm != "" && c.realm != anyRealm && challenge.Realm != c.realm:
		return fmt.Errorf("the realm %q asks for the password; the trunk's is %q (its key realm)", printable(challenge.Realm, 60), c.realm)
	case len(c.nonces) == 0:
		return nil
	case slices.Contains(c.nonces, challenge.Nonce):
		return errors.New("the trunk does not take the username and password")
	case !challenge.Stale:
		return errors.New("the trunk does not take the username and password")
	case len(c.nonces) >= maxChallenges:
		return errors.New("the trunk challenges again and again")
	}
	return nil
}
