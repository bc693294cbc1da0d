package sip

import (
	"log/slog"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/dns/dnsmessage"

	"tandem/trunks"
)

func TestFailedRegistrationIsRetried(t *testing.T) {
	t.Parallel()
	r := newRawRegistrar(t)
	g := startAgent(t, Config{Trunks: []Trunk{r.trunk()}, registerRetry: soon}, newCallers(nil))
	first := r.next("REGISTER")
	r.answer(first, "403 Forbidden")
	second := r.next("REGISTER")
	require.Contains(t, awaitRegistration(t, g, trunks.Failed).LastError, "403 Forbidden")
	require.Equal(t, headerOf(first, "Call-ID"), headerOf(second, "Call-ID"), "RFC 3261 §10.2")
	r.answer(second, "500 Server Internal Error")
	r.answer(r.next("REGISTER"), "200 OK")
	require.Empty(t, awaitRegistration(t, g, trunks.Registered).LastError)
}

// TestRegistrarSaysWhenToComeAgain: the wait after a refusal is what its Retry-After says, if that is longer than ours, and
// no longer than our longest.
func TestRegistrarSaysWhenToComeAgain(t *testing.T) {
	t.Parallel()
	far := newRawRegistrar(t)
	trunk := far.trunk()
	g := startAgent(t, Config{}, newCallers(nil))
	read := mustTrunk(t, trunk)
	for _, c := range []struct {
		status      string
		headers     []string
		least, most time.Duration
	}{
		{"503 Service Unavailable", nil, minRetry / 2, minRetry},
		{"503 Service Unavailable", []string{"Retry-After: 0"}, minRetry / 2, minRetry},
		{"503 Service Unavailable", []string{"Retry-After: 200 (maintenance)"}, 200 * time.Second, 200 * time.Second},
		{"403 Forbidden", []string{"Retry-After: 30;duration=10"}, 30 * time.Second, 30 * time.Second},
		{"500 Server Internal Error", []string{"Retry-After: 86400"}, maxRetry, maxRetry},
	} {
		wait := make(chan time.Duration, 1)
		go func() { wait <- newRegistration(g.Agent, read).renew(t.Context()) }()
		far.answer(far.next("REGISTER"), c.status, c.headers...)
		got := <-wait
		require.GreaterOrEqual(t, got, c.least, "%s %v", c.status, c.headers)
		require.LessOrEqual(t, got, c.most, "%s %v", c.status, c.headers)
	}
}

// TestRegistrationGoesOnToTheNextAddress: a registrar that can't is left for the next one that the DNS names, and one that
// refuses is not.
func TestRegistrationGoesOnToTheNextAddress(t *testing.T) {
	t.Parallel()
	for status, goesOn := range map[string]bool{"503 Service Unavailable": true, "500 Server Internal Error": true, "403 Forbidden": false} {
		t.Run(status, func(t *testing.T) {
			t.Parallel()
			first, second := newRawRegistrar(t), newRawRegistrar(t)
			s := startNameserver(t, map[string][]dnsmessage.ResourceBody{
				"_sip._udp.carrier.example": {
					recordSRV(1, 1, "host.carrier.example", portOf(first.conn.LocalAddr().String())),
					recordSRV(2, 1, "host.carrier.example", portOf(second.conn.LocalAddr().String())),
				},
				"host.carrier.example": {recordA("127.0.0.1")},
			})
			trunk := first.trunk()
			trunk.URI = "sip:carrier.example"
			g := startAgent(t, Config{nameservers: []string{s.addr}, Trunks: []Trunk{trunk}}, newCallers(nil))
			first.answer(first.next("REGISTER"), status)
			if !goesOn {
				require.Contains(t, awaitRegistration(t, g, trunks.Failed).LastError, status)
				g.stop()
				require.NoError(t, second.conn.SetReadDeadline(time.Now()))
				_, _, err := second.conn.ReadFrom(make([]byte, 10))
				require.ErrorContains(t, err, "timeout", "nothing was sent there")
				return
			}
			second.answer(second.next("REGISTER"), "200 OK")
			awaitRegistration(t, g, trunks.Registered)
			require.True(t, g.book.Refresh(carrierKey))
			second.answer(second.next("REGISTER"), "200 OK")
		})
	}
}

// TestRegistrationStaysWhenOtherThingsChange: what the REGISTER does not depend on is changed without a gap in which no call
// would come, and counts for the next call to our Contact.
func TestRegistrationStaysWhenOtherThingsChange(t *testing.T) {
	t.Parallel()
	r := newRawRegistrar(t)
	trunk := r.trunk()
	g := startAgent(t, Config{Trunks: []Trunk{trunk}}, newCallers(nil))
	before := r.next("REGISTER")
	contact := headerOf(before, "Contact")
	r.answer(before, "200 OK")
	awaitRegistration(t, g, trunks.Registered)

	trunk.Weight, trunk.Codecs, trunk.Probe = 7, []string{"PCMA"}, time.Second
	g.book.SetTrunks([]Trunk{trunk}, nil)
	r.answer(r.next("OPTIONS"), "200 OK") // so the change is known
	require.True(t, g.book.Refresh(carrierKey))
	after := r.next("REGISTER")
	require.Equal(t, headerOf(before, "Call-ID"), headerOf(after, "Call-ID"))
	require.Equal(t, contact, headerOf(after, "Contact"))
	require.Equal(t, "2 REGISTER", headerOf(after, "CSeq"), "none between them")
	r.answer(after, "200 OK")

	target, _, _ := strings.Cut(strings.TrimPrefix(contact, "<"), ">")
	called := g.lineCalled(mustURI(t, target), netip.MustParseAddr("127.0.0.1"))
	require.NotNil(t, called)
	require.Equal(t, trunk.Codecs, called.Codecs)

	trunk.Username = "other"
	g.book.SetTrunks([]Trunk{trunk}, nil)
	request := r.next("REGISTER")
	require.Equal(t, strings.Replace(contact, ";expires=600", ";expires=0", 1), headerOf(request, "Contact"))
	r.answer(request, "200 OK")
	request = r.next("REGISTER")
	require.Contains(t, headerOf(request, "Contact"), "<sip:other@")
	r.answer(request, "200 OK")
	awaitRegistration(t, g, trunks.Registered)
}

// TestRegistrationFollowsItsTrunk: a refresh goes by the trunk as it is then, but for what another registration is made for.
func TestRegistrationFollowsItsTrunk(t *testing.T) {
	trunk := Trunk{Name: "carrier", Account: "1", URI: "sip:192.0.2.1", Register: true, Username: "user"}
	book := trunks.BookOf(trunk)
	r := newRegistration(&Agent{book: book, log: slog.New(slog.DiscardHandler)}, mustTrunk(t, trunk))
	trunk.Allow = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	book.SetTrunks([]Trunk{trunk}, nil)
	r.follow()
	require.Equal(t, trunk.Allow, r.trunk.Allow)
	trunk.Username = "other"
	book.SetTrunks([]Trunk{trunk}, nil)
	r.follow()
	require.Equal(t, "user", r.trunk.Username, "it is taken back as it was made")
	book.SetTrunks(nil, nil)
	r.follow()
	require.Equal(t, "user", r.trunk.Username)
}

func mustTrunk(t *testing.T, of Trunk) *trunk {
	t.Helper()
	read, err := readTrunk(&of)
	require.NoError(t, err)
	return read
}

// TestWhatARegistrationDependsOn goes through all fields of a trunk.
func TestWhatARegistrationDependsOn(t *testing.T) {
	dependsOn := []string{"Name", "Account", "URI", "TLSCert", "TLSKey", "Username", "Password", "Realm", "Register", "PublicIP"}
	kind := reflect.TypeFor[Trunk]()
	for i := range kind.NumField() {
		var changed Trunk
		switch field := reflect.ValueOf(&changed).Elem().Field(i); field.Kind() { //nolint:exhaustive // those that there are
		case reflect.String:
			field.SetString("x")
		case reflect.Bool:
			field.SetBool(true)
		case reflect.Int, reflect.Int64:
			field.SetInt(1)
		case reflect.Slice:
			field.Set(reflect.MakeSlice(field.Type(), 1, 1))
		default:
			require.Fail(t, "a kind of field that this test does not know", kind.Field(i).Name)
		}
		name := kind.Field(i).Name
		require.Equal(t, !slices.Contains(dependsOn, name), registersAlike(&Trunk{}, &changed), name)
	}
}
