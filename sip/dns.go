package sip

import (
	"bufio"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	dnsTimeout  = 4 * time.Second // for one server
	dnsPatience = time.Second     // with one server before the next is asked as well
	silentTime  = time.Minute     // a server that was silent for so long is asked last until then
	dnsDatagram = 1232            // bytes that an answer over UDP may have (EDNS)
	maxCNAMEs   = 8
)

// dnsClient asks the resolvers of this machine, over UDP, and over TCP where the answer is too long for that.
type dnsClient struct {
	servers []string // host:port; empty: those of resolv.conf
	hosts   string   // file with addresses that win over the DNS
	config  string   // resolv.conf
	now     func() time.Time

	mu     sync.Mutex
	silent map[string]time.Time // servers that said nothing, until when they come last
}

func newDNS(servers ...string) *dnsClient { return &dnsClient{servers: servers, now: time.Now} }

func systemDNS() *dnsClient {
	c := newDNS()
	c.hosts, c.config = "/etc/hosts", "/etc/resolv.conf"
	return c
}

func (c *dnsClient) lookup(ctx context.Context, name string, kind recordType) (answer, error) {
	if kind == typeA || kind == typeAAAA {
		if addrs, ok := c.fromHosts(name); ok {
			return answer{addrs: ofFamily(addrs, kind), ttl: noAnswerTTL}, nil
		}
	}
	query, id, err := newQuery(name, kind)
	if err != nil {
		return answer{}, err
	}
	servers := c.inOrder()
	return c.race(ctx, slices.Concat(servers, servers), func(ctx context.Context, server string) (answer, error) {
		return ask(ctx, server, query, id, name, kind)
	})
}

// race asks one server after the other, the next as soon as one fails or is silent for a while, and returns the first
// answer, from whichever it comes.
func (c *dnsClient) race(ctx context.Context, servers []string, ask func(context.Context, string) (answer, error)) (answer, error) {
	type result struct {
		answer
		server string
		err    error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan result, len(servers))
	next := time.NewTimer(0)
	defer next.Stop()
	var failures error
	var waiting string // the server that was asked last, until it fails
	for asked, failed := 0, 0; failed < len(servers); {
		select {
		case <-ctx.Done():
			return answer{}, errors.Join(failures, ctx.Err())
		case <-next.C:
			c.hush(waiting)
			if asked == len(servers) {
				continue
			}
			waiting = servers[asked]
			asked++
			go func(server string) { // ends with ctx
				a, err := ask(ctx, server)
				results <- result{a, server, err}
			}(waiting)
			next.Reset(dnsPatience)
		case r := <-results:
			if r.err == nil {
				c.heard(r.server)
				return r.answer, nil
			}
			failed++
			failures = errors.Join(failures, fmt.Errorf("%s: %w", r.server, r.err))
			if r.server == waiting {
				waiting = ""
				next.Reset(0)
			}
		}
	}
	return answer{}, failures
}

// inOrder lists the servers to ask, those that were silent lately behind the others.
func (c *dnsClient) inOrder() []string {
	servers := slices.Clone(c.servers)
	if len(servers) == 0 {
		servers = c.configured()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	maps.DeleteFunc(c.silent, func(_ string, until time.Time) bool { return !now.Before(until) })
	slices.SortStableFunc(servers, func(a, b string) int {
		return cmp.Compare(btoi(now.Before(c.silent[a])), btoi(now.Before(c.silent[b])))
	})
	return servers
}

// hush has a server come last for a while; heard takes that back.
func (c *dnsClient) hush(server string) {
	if server == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.silent == nil {
		c.silent = make(map[string]time.Time)
	}
	c.silent[server] = c.now().Add(silentTime)
}

func (c *dnsClient) heard(server string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.silent, server)
}

// configured lists the resolvers of this machine.
func (c *dnsClient) configured() []string {
	var servers []string
	for fields := range linesOf(c.config) {
		if len(fields) > 1 && fields[0] == "nameserver" {
			servers = append(servers, net.JoinHostPort(fields[1], "53"))
		}
	}
	if len(servers) == 0 {
		servers = []string{"127.0.0.1:53"}
	}
	return servers[:min(len(servers), 3)]
}

func (c *dnsClient) fromHosts(name string) (addrs []netip.Addr, ok bool) {
	if name == "localhost" || strings.HasSuffix(name, ".localhost") { // RFC 6761 §6.3
		addrs = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	}
	for fields := range linesOf(c.hosts) {
		if len(fields) < 2 || !slices.ContainsFunc(fields[1:], func(f string) bool { return strings.EqualFold(f, name) }) {
			continue
		}
		if addr, err := netip.ParseAddr(fields[0]); err == nil && !slices.Contains(addrs, addr) {
			addrs = append(addrs, addr)
		}
	}
	return addrs, len(addrs) > 0
}

// linesOf yields the fields of each line of a small file, without comments; a file that cannot be read has none.
func linesOf(path string) func(yield func([]string) bool) {
	return func(yield func([]string) bool) {
		file, err := os.Open(path) //nolint:gosec // a file of the system
		if err != nil {
			return
		}
		defer func() { _ = file.Close() }()
		scanner := bufio.NewScanner(io.LimitReader(file, 1<<20))
		for scanner.Scan() {
			line, _, _ := strings.Cut(scanner.Text(), "#")
			if fields := strings.Fields(line); len(fields) > 0 && !yield(fields) {
				return
			}
		}
	}
}

func ofFamily(addrs []netip.Addr, kind recordType) []netip.Addr {
	return slices.DeleteFunc(slices.Clone(addrs), func(a netip.Addr) bool { return a.Unmap().Is4() != (kind == typeA) })
}

func newQuery(name string, kind recordType) (query []byte, id uint16, err error) {
	asked, err := dnsmessage.NewName(strings.TrimSuffix(name, ".") + ".")
	if err != nil {
		return nil, 0, fmt.Errorf("%q is no name: %w", printable(name, 100), err)
	}
	id = uint16(rand.Uint32())
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: id, RecursionDesired: true})
	if err := b.StartQuestions(); err != nil {
		return nil, 0, err
	}
	if err := b.Question(dnsmessage.Question{Name: asked, Type: dnsmessage.Type(kind), Class: dnsmessage.ClassINET}); err != nil {
		return nil, 0, err
	}
	if err := b.StartAdditionals(); err != nil {
		return nil, 0, err
	}
	var edns dnsmessage.ResourceHeader
	if err := edns.SetEDNS0(dnsDatagram, dnsmessage.RCodeSuccess, false); err != nil {
		return nil, 0, err
	}
	if err := b.OPTResource(edns, dnsmessage.OPTResource{}); err != nil {
		return nil, 0, err
	}
	query, err = b.Finish()
	return query, id, err
}

// ask puts one question to one server.
func ask(ctx context.Context, server string, query []byte, id uint16, name string, kind recordType) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, dnsTimeout)
	defer cancel()
	for _, network := range []string{networkUDP, networkTCP} {
		a, truncated, err := askOver(ctx, network, server, query, id, name, kind)
		if err != nil || !truncated {
			return a, err
		}
	}
	return answer{}, errors.New("the answer is too long")
}

func askOver(ctx context.Context, network, server string, query []byte, id uint16, name string, kind recordType) (a answer, truncated bool, err error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, network, server)
	if err != nil {
		return answer{}, false, err
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if network == networkTCP {
		query = append(binary.BigEndian.AppendUint16(nil, uint16(len(query))), query...)
	}
	if _, err := conn.Write(query); err != nil {
		return answer{}, false, err
	}
	buf := make([]byte, maxMessage)
	for {
		n, err := readAnswer(conn, network, buf)
		if err != nil {
			return answer{}, false, err
		}
		a, truncated, err = readRecords(buf[:n], id, name, kind)
		if errors.Is(err, errNotOurs) && network == networkUDP {
			continue // somebody guesses; the real one may still come
		}
		return a, truncated, err
	}
}

func readAnswer(conn net.Conn, network string, buf []byte) (int, error) {
	if network == networkUDP {
		return conn.Read(buf)
	}
	if _, err := io.ReadFull(conn, buf[:2]); err != nil {
		return 0, err
	}
	return io.ReadFull(conn, buf[:binary.BigEndian.Uint16(buf)])
}

var errNotOurs = errors.New("the answer is to another question")

// readRecords reads the answer to a question, following the aliases in it.
func readRecords(message []byte, id uint16, name string, kind recordType) (a answer, truncated bool, err error) {
	var p dnsmessage.Parser
	header, err := p.Start(message)
	if err != nil || header.ID != id || !header.Response {
		return answer{}, false, errNotOurs
	}
	questions, err := p.AllQuestions()
	if err != nil || len(questions) != 1 || uint16(questions[0].Type) != uint16(kind) || !sameName(questions[0].Name.String(), name) {
		return answer{}, false, errNotOurs
	}
	switch {
	case header.Truncated:
		return answer{}, true, nil
	case header.RCode == dnsmessage.RCodeNameError:
		return answer{}, false, nil
	case header.RCode != dnsmessage.RCodeSuccess:
		return answer{}, false, fmt.Errorf("the server says %s", header.RCode)
	}
	records, err := p.AllAnswers()
	if err != nil {
		return answer{}, false, err
	}
	owner := name
	for range maxCNAMEs {
		alias := slices.IndexFunc(records, func(r dnsmessage.Resource) bool {
			return r.Header.Type == dnsmessage.TypeCNAME && sameName(r.Header.Name.String(), owner)
		})
		if alias < 0 {
			break
		}
		cname, ok := records[alias].Body.(*dnsmessage.CNAMEResource)
		if !ok {
			break
		}
		owner = cname.CNAME.String()
	}
	ttl := uint32(maxTTL / time.Second)
	for _, r := range records {
		if sameName(r.Header.Name.String(), owner) && uint16(r.Header.Type) == uint16(kind) && a.add(r) {
			ttl = min(ttl, r.Header.TTL)
		}
	}
	a.ttl = time.Duration(ttl) * time.Second
	return a, false, nil
}

// add takes a record; false: it cannot be read.
func (a *answer) add(r dnsmessage.Resource) bool {
	switch body := r.Body.(type) {
	case *dnsmessage.AResource:
		a.addrs = append(a.addrs, netip.AddrFrom4(body.A))
	case *dnsmessage.AAAAResource:
		a.addrs = append(a.addrs, netip.AddrFrom16(body.AAAA))
	case *dnsmessage.SRVResource:
		target := strings.TrimSuffix(body.Target.String(), ".")
		a.srvs = append(a.srvs, srv{body.Priority, body.Weight, body.Port, target})
	case *dnsmessage.UnknownResource:
		record, err := readNAPTR(body.Data)
		if err != nil {
			return false
		}
		a.naptrs = append(a.naptrs, record)
	default:
		return false
	}
	return true
}

func sameName(a, b string) bool {
	return strings.EqualFold(strings.TrimSuffix(a, "."), strings.TrimSuffix(b, "."))
}

var errNAPTR = errors.New("the NAPTR record cannot be read")

// readNAPTR reads the data of a NAPTR record (RFC 3403 §4.1). A regular expression is no SIP, and a compressed name is
// forbidden there: both are errors.
func readNAPTR(data []byte) (naptr, error) {
	if len(data) < 4 {
		return naptr{}, errNAPTR
	}
	n := naptr{order: binary.BigEndian.Uint16(data), preference: binary.BigEndian.Uint16(data[2:])}
	data = data[4:]
	var texts [3]string
	for i := range texts {
		if len(data) == 0 || len(data) < 1+int(data[0]) {
			return naptr{}, errNAPTR
		}
		texts[i], data = string(data[1:1+int(data[0])]), data[1+int(data[0]):]
	}
	if texts[2] != "" {
		return naptr{}, errNAPTR
	}
	var labels []string
	for {
		if len(data) == 0 || data[0] > 63 || len(data) < 1+int(data[0]) {
			return naptr{}, errNAPTR
		}
		if data[0] == 0 {
			break
		}
		labels, data = append(labels, string(data[1:1+int(data[0])])), data[1+int(data[0]):]
	}
	n.flags, n.service, n.replacement = texts[0], texts[1], strings.Join(labels, ".")
	return n, nil
}
