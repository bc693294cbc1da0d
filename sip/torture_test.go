package sip

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"
	"github.com/stretchr/testify/require"

	"tandem/dialogs"
	"tandem/errs"
)

// torture is a row of docs/torture.md.
type torture struct {
	name, section, network, verdict string
	status                          string // empty: no answer
	message                         []byte
}

func tortures(t testing.TB) []torture {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "docs", "torture.md"))
	require.NoError(t, err)
	var rows []torture
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, " | ")
		if len(cells) != 6 || !strings.Contains(cells[1], "§") {
			continue
		}
		row := torture{name: strings.TrimPrefix(cells[0], "| "), section: cells[1], network: cells[2], verdict: cells[3]}
		if cells[4] != "-" {
			row.status = cells[4]
		}
		row.message, err = os.ReadFile(filepath.Join("testdata", "torture", row.name+".dat"))
		require.NoError(t, err)
		rows = append(rows, row)
	}
	files, err := filepath.Glob(filepath.Join("testdata", "torture", "*.dat"))
	require.NoError(t, err)
	require.Len(t, rows, len(files), "a message without a row in docs/torture.md")
	require.Len(t, files, 50+12, "RFC 4475 has 50 messages, RFC 5118 has 12")
	return rows
}

// tortureCallers knows nobody and takes the call of the end of the test.
func tortureCallers() *callers {
	return newCallers(func(in dialogs.Incoming) error {
		if strings.Contains(in.UserToUser, "a.b.c") {
			return nil
		}
		return errs.New(errs.NotFound, "nobody has this number")
	})
}

// TestTorture sends each message to a real listener and holds the gateway to docs/torture.md. Each has a gateway of its
// own, for some of them share a branch, and are one transaction by RFC 3261 §17.2.3.
func TestTorture(t *testing.T) {
	t.Parallel()
	for _, row := range tortures(t) {
		t.Run(row.name, func(t *testing.T) {
			in := tortureCallers()
			g := startAgent(t, Config{Trunks: []Trunk{office}}, in)
			var answers []string
			if row.network == "udp" {
				answers = tortureOverUDP(t, g, row)
			} else {
				answers = tortureOverTCP(t, g, row)
			}
			refused := g.GuardStats().Malformed
			if row.verdict == "processed" {
				require.Zero(t, refused, "the front refused it")
			} else {
				require.EqualValues(t, 1, refused, "it passed the front")
				require.Empty(t, in.calls())
			}
			if row.status == "" {
				require.Empty(t, answers)
				return
			}
			require.NotEmpty(t, answers)
			for _, answer := range answers {
				require.True(t, strings.HasPrefix(answer, "SIP/2.0 "+row.status+" "), answer)
				checkEcho(t, row, answer)
			}
			if says, ok := tortureHeaders()[row.status]; ok && row.verdict == "processed" {
				require.Contains(t, answers[0], says)
			}
			if row.status != "404" {
				require.Empty(t, in.calls())
				return
			}
			require.Len(t, in.calls(), 1)
			call := in.calls()[0]
			require.Equal(t, tortureCalls()[row.name], [2]string{call.From, call.To})
		})
	}
}

// tortureHeaders is what RFC 4475 and RFC 3261 want in an answer beside its status.
func tortureHeaders() map[string]string {
	return map[string]string{
		"405": "\r\nAllow: " + allowed + "\r\n", // RFC 3261 §8.2.1
		"406": "\r\nWarning: 399 ",              // RFC 4475 §3.3.15
		"415": "\r\nAccept: " + sdpType + "\r\n",
		"420": "\r\nUnsupported: nothingSupportsThis, nothingSupportsThisEither\r\n", // and nothing of Proxy-Require
		"501": "\r\nAllow: " + allowed + "\r\n",                                      // RFC 4475 §3.1.1.2
	}
}

// tortureCalls is who calls whom in the calls that reach the application.
func tortureCalls() map[string][2]string {
	return map[string][2]string{
		"esc01":          {dialogs.FromUnknown, "sips:user@example.com"},
		"longreq":        {dialogs.FromUnknown, "user"},
		"baddate":        {dialogs.FromUnknown, "user"},
		"inv2543":        {"+13035551111", "UserB"},
		"mult-ip-in-sdp": {dialogs.FromUnknown, "user"},
	}
}

// TestTortureIsReadRight reads every message that is processed as the user agent does, through the front and the
// library's parser, and compares what comes out with what its sender meant.
func TestTortureIsReadRight(t *testing.T) {
	t.Parallel()
	quiet := slog.New(slog.DiscardHandler)
	f := newFront(newGuard(GuardConfig{}, func(netip.Addr) bool { return false }, quiet), quiet)
	for _, row := range tortures(t) {
		if row.verdict != "processed" {
			continue
		}
		t.Run(row.name, func(t *testing.T) {
			pass := f.judge(row.message, netip.MustParseAddrPort("192.0.2.99:5060")).pass
			want, ok := tortureReadings()[row.name]
			if !ok { // the front itself does what the RFC says
				require.Contains(t, []string{"intmeth", "unkscm", "novelsc", "bcast"}, row.name)
				require.Nil(t, pass)
				return
			}
			msg, err := f.parser.ParseSIP(pass)
			require.NoError(t, err)
			if req, ok := msg.(*sip.Request); ok {
				bracketVias(req)
			}
			got := partsOf(msg)
			for what, value := range want {
				require.Equal(t, value, got[what], what)
			}
		})
	}
}

// partsOf names the parts of a message that tortureReadings speaks of.
func partsOf(msg sip.Message) map[string]string {
	said := map[string]string{
		"body": strconv.Itoa(len(msg.Body())), "cseq": msg.CSeq().Value(), "call": msg.CallID().Value(),
		"from": userOf(msg.From().Address), "from name": msg.From().DisplayName, "to": userOf(msg.To().Address),
		"to name": msg.To().DisplayName,
	}
	said["from tag"], _ = msg.From().Params.Get("tag")
	said["to tag"], _ = msg.To().Params.Get("tag")
	var vias, contacts []string
	for _, h := range msg.GetHeaders("Via") {
		if v, ok := h.(*sip.ViaHeader); ok {
			vias = append(vias, strings.TrimPrefix((&sip.ViaHeader{ProtocolName: "SIP", ProtocolVersion: "2.0", Transport: v.Transport, Host: v.Host, Port: v.Port}).Value(), "SIP/2.0/"))
		}
	}
	for _, h := range msg.GetHeaders("Contact") {
		if c, ok := h.(*sip.ContactHeader); ok {
			contacts = append(contacts, fmt.Sprintf("%s;%s", c.Address.String(), c.Params.String()))
		}
	}
	said["vias"], said["contacts"] = strings.Join(vias, ", "), strings.Join(contacts, ", ")
	switch msg := msg.(type) {
	case *sip.Request:
		said["method"] = msg.Method.String()
		said["user"], said["host"], said["port"] = userOf(msg.Recipient), msg.Recipient.Host, strconv.Itoa(msg.Recipient.Port)
		if h := msg.MaxForwards(); h != nil {
			said["forwards"] = h.Value()
		}
		if stream, address := heardAt(msg.Body()); stream {
			said["media"] = address
		}
	case *sip.Response:
		said["status"], said["reason"] = strconv.Itoa(msg.StatusCode), msg.Reason
	}
	for _, name := range []string{"UnknownHeaderWithUnusualValue", "Subject", "Date", "Require"} {
		if list := msg.GetHeaders(name); len(list) > 0 {
			said[name] = list[0].Value()
		}
	}
	return said
}

// heardAt returns where the sender of a description wants to hear its first stream.
func heardAt(body []byte) (ok bool, address string) {
	parsed, _, err := parseDescription(body)
	if err != nil || len(parsed.MediaDescriptions) == 0 {
		return false, ""
	}
	stream := parsed.MediaDescriptions[0]
	c := stream.ConnectionInformation
	if c == nil {
		c = parsed.ConnectionInformation
	}
	if c == nil {
		return false, ""
	}
	return true, fmt.Sprintf("%s %s %d", c.AddressType, c.Address.Address, stream.MediaName.Port.Value)
}

// tortureReadings is what there is to be read in the messages that are processed.
func tortureReadings() map[string]map[string]string {
	v6 := map[string]string{"method": "REGISTER", "host": "[2001:db8::10]", "port": "0", "vias": "UDP [2001:db8::9:1]", "contacts": "sip:caller@[2001:db8::1];"}
	with := func(m map[string]string, pairs ...string) map[string]string {
		m = maps.Clone(m)
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i]] = pairs[i+1]
		}
		return m
	}
	long := func(s string, n int) string { return strings.Repeat(s, n) }
	return map[string]map[string]string{
		"wsinv": {
			"method": "INVITE", "to tag": "1918181833n", "from": "jdrosen", "from tag": "98asjd8", "forwards": "68", "cseq": "9 INVITE",
			"from name": `J Rosenberg \\\"`, "UnknownHeaderWithUnusualValue": ";;,,;;,;", "Subject": "", "body": "150",
			"vias": "UDP 192.0.2.2, TCP spindle.example.com, UDP 192.168.255.111", "media": "IP4 192.0.2.4 49217",
		},
		"esc01": {
			"user": "sips:user@example.com", "host": "example.net", "to": "user", "from": "I have spaces", "body": "150",
			"contacts": "sip:cal%6Cer@host5.example.net;%6C%72;n%61me=v%61lue%25%34%31;",
		},
		"escnull": {
			"to": "null-%00-null", "from": "null-%00-null", // no text: it stays as it is, and is not shortened
			"contacts": "sip:%00@host5.example.com;, sip:%00%00@host5.example.com;",
		},
		"esc02": {
			"method": "RE%47IST%45R", "to name": "%Z%45", "from name": "%Z%45",
			"contacts": "sip:alias1@host1.example.com;, sip:alias3@host3.example.com;",
		},
		"lwsdisp": {"from name": "caller", "from": "caller", "from tag": "323"},
		"longreq": {
			"from": long("amazinglylongcallername", 5), "from tag": "12" + long("982", 50) + "424",
			"to name": "I have a user name of " + long("extreme", 10) + " proportion",
			"call":    "longreq.one" + long("really", 20) + "longcallid", "body": "150",
			"contacts": "sip:" + long("amazinglylongcallername", 5) + "@host5.example.net;",
		},
		"dblreq":     {"method": "REGISTER", "body": "0", "to": "j.user"},
		"semiuri":    {"user": "user;par=u@example.net", "host": "example.com"},
		"transports": {"vias": "UDP t1.example.com, SCTP t2.example.com, TLS t3.example.com, UNKNOWN t4.example.com, TCP t5.example.com"},
		"mpart01":    {"method": "MESSAGE", "body": "553", "to": "kumiko"},
		"unreason":   {"status": "200", "reason": "= 2**3 * 5**2 но сто девяносто девять - простое", "body": "154"},
		"noreason":   {"status": "100", "reason": "", "cseq": "35 INVITE"},
		"baddate":    {"Date": "Fri, 01 Jan 2010 16:00:00 EST", "body": "150"},
		"unksm2":     {"method": "REGISTER", "host": "example.com"},
		"bext01":     {"Require": "nothingSupportsThis, nothingSupportsThisEither"},
		"invut":      {"body": "40"},
		"regaut01":   {"method": "REGISTER", "body": "0"},
		"zeromf":     {"forwards": "0"},
		"cparam01":   {"contacts": "sip:+19725552222@gw1.example.net;unknownparam"},
		"cparam02":   {"contacts": "sip:+19725552222@gw1.example.net;unknownparam;"},
		"regescrt":   {"contacts": "sip:user@example.com?Route=%3Csip:sip.example.com%3E;"},
		"sdp01":      {"body": "150"},
		"inv2543":    {"user": "UserB", "from": "+13035551111", "to": "+16505552222", "from tag": "", "media": "IP4 192.0.2.5 49217"},

		"ipv6-good":                     v6,
		"port-ambiguous":                with(v6, "host", "[2001:db8::10:5070]"),
		"port-unambiguous":              with(v6, "port", "5070"),
		"via-received-param-with-delim": {"method": "BYE", "vias": "UDP [2001:db8::9:1]", "to tag": "bd76ya"},
		"via-received-param-no-delim":   {"method": "OPTIONS", "vias": "UDP [2001:db8::9:1]"},
		"ipv6-in-sdp":                   {"user": "user", "host": "[2001:db8::10]", "vias": "UDP [2001:db8::20]", "media": "IP6 2001:db8::20 6000"},
		"mult-ip-in-header":             {"vias": "UDP [2001:db8::9:1]:6050, UDP 192.0.2.1, TCP [2001:db8::9:255]"},
		"mult-ip-in-sdp":                {"host": "[2001:db8::10]", "media": "IP4 192.0.2.1 22334"},
		"ipv4-mapped-ipv6": {
			"vias":     "UDP [::ffff:192.0.2.10]:19823, UDP [::ffff:192.0.2.2]",
			"contacts": "sip:ted@[::ffff:192.0.2.2];", "media": "IP6 ::ffff:192.0.2.2 6000",
		},
		"ipv6-bug-abnf-3-colons":     {"user": "user", "to": "user", "host": "[2001:db8:::192.0.2.1]"},
		"ipv6-correct-abnf-2-colons": {"user": "user", "to": "user", "host": "[2001:db8::192.0.2.1]"},
	}
}

// TestTortureBreaksAStream: what has no sure end is answered over TCP too, and then the connection is closed (RFC 4475
// §3.1.2.3, §3.3.9).
func TestTortureBreaksAStream(t *testing.T) {
	t.Parallel()
	g := startAgent(t, Config{Trunks: []Trunk{office}}, tortureCallers())
	for _, row := range tortures(t) {
		if row.name != "ncl" && row.name != "mcl01" {
			continue
		}
		conn, err := net.Dial("tcp", g.at("tcp"))
		require.NoError(t, err)
		_, err = conn.Write(row.message)
		require.NoError(t, err)
		r := newReader(t, conn)
		require.Contains(t, r.next(), "SIP/2.0 400 ")
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
		_, err = io.Copy(io.Discard, conn)
		require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "it is still open")
		_ = conn.Close()
	}
}

// TestTortureHarmsNobody sends all messages over all transports at once, and makes a call after that.
func TestTortureHarmsNobody(t *testing.T) {
	t.Parallel()
	in := tortureCallers()
	g := startAgent(t, Config{Trunks: []Trunk{office}}, in)
	datagrams, err := net.Dial("udp", g.at("udp"))
	require.NoError(t, err)
	defer func() { _ = datagrams.Close() }()
	for _, row := range tortures(t) {
		_, err = datagrams.Write(row.message)
		require.NoError(t, err)
		stream, err := net.Dial("tcp", g.at("tcp"))
		require.NoError(t, err)
		defer func() { _ = stream.Close() }()
		_, err = stream.Write(row.message)
		require.NoError(t, err)
	}
	phone := callIn(t, g, "uac_token", "udp")
	leg := in.leg(t)
	leg.Answer()
	await(t, leg, dialogs.LegAnswered)
	phone.passed()
	end(t, leg)
	g.idle(t)
}

// tortureOverUDP sends a message from where its Via says that answers go, and after it an OPTIONS whose answer tells
// that there are no more.
func tortureOverUDP(t *testing.T, g *gateway, row torture) []string {
	t.Helper()
	port := 5060
	v, err := readVia(firstOf(scanMessage(headOf(row.message)).first("Via")))
	if err == "" && v.port != "" {
		port, _ = strconv.Atoi(v.port)
	}
	local := &net.UDPAddr{IP: net.IPv4(127, byte(1+rand.IntN(250)), byte(rand.IntN(250)), byte(1+rand.IntN(250))), Port: port}
	to, errAddr := net.ResolveUDPAddr("udp", g.at("udp"))
	require.NoError(t, errAddr)
	conn, errDial := net.DialUDP("udp", local, to)
	require.NoError(t, errDial)
	defer func() { _ = conn.Close() }()
	_, errWrite := conn.Write(row.message)
	require.NoError(t, errWrite)
	if row.status == "" {
		_, errWrite = conn.Write([]byte(marker(local.String(), "UDP")))
		require.NoError(t, errWrite)
	}
	var answers []string
	buf := make([]byte, 65536)
	for {
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
		n, err := conn.Read(buf)
		require.NoError(t, err, "no answer")
		answer := string(buf[:n])
		switch {
		case strings.HasPrefix(answer, "SIP/2.0 1"):
		case strings.Contains(answer, "Call-ID: marker"):
			return answers
		default:
			answers = append(answers, answer)
			_, errWrite = conn.Write([]byte(marker(local.String(), "UDP")))
			require.NoError(t, errWrite)
		}
	}
}

// tortureOverTCP does the same over a connection, which stays open.
func tortureOverTCP(t *testing.T, g *gateway, row torture) []string {
	t.Helper()
	conn, err := net.Dial("tcp", g.at("tcp"))
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	_, err = conn.Write(row.message)
	require.NoError(t, err)
	r := newReader(t, conn)
	if row.status == "" {
		_, err = conn.Write([]byte(marker(conn.LocalAddr().String(), "TCP")))
		require.NoError(t, err)
	}
	var answers []string
	for {
		answer := r.next()
		switch {
		case strings.HasPrefix(answer, "SIP/2.0 1"):
		case strings.Contains(answer, "Call-ID: marker"):
			return answers
		default:
			answers = append(answers, answer)
			_, err = conn.Write([]byte(marker(conn.LocalAddr().String(), "TCP")))
			require.NoError(t, err)
		}
	}
}

// marker is an OPTIONS that is answered.
func marker(local, transport string) string {
	return fmt.Sprintf("OPTIONS sip:127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/%s %s;branch=z9hG4bKmarker%d;rport\r\nFrom: <sip:a@x>;tag=1\r\n"+
		"To: <sip:b@x>\r\nCall-ID: marker\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n", transport, local, rand.Uint64())
}

func headOf(message []byte) string {
	head, _, _ := bytes.Cut(message, []byte("\r\n\r\n"))
	return string(head)
}

// streamReader reads messages without a body from a connection.
type streamReader struct {
	t    *testing.T
	conn net.Conn
	buf  []byte
}

func newReader(t *testing.T, conn net.Conn) *streamReader { return &streamReader{t: t, conn: conn} }

// next returns the next message.
func (r *streamReader) next() string {
	r.t.Helper()
	for {
		if i := bytes.Index(r.buf, []byte("\r\n\r\n")); i >= 0 {
			text := string(r.buf[:i+4])
			r.buf = r.buf[i+4:]
			return text
		}
		require.NoError(r.t, r.conn.SetReadDeadline(time.Now().Add(patience)))
		part := make([]byte, 4096)
		n, err := r.conn.Read(part)
		require.NoError(r.t, err, "no answer")
		r.buf = append(r.buf, part[:n]...)
	}
}

// checkEcho finds in the answer what the sender matches it by (RFC 3261 §8.2.6.2).
func checkEcho(t *testing.T, row torture, answer string) {
	t.Helper()
	sent, got := scanMessage(headOf(row.message)), scanMessage(headOf([]byte(answer)))
	require.Equal(t, sent.first("Call-ID"), got.first("Call-ID"))
	if number, method := splitCSeq(sent.first("CSeq")); number != "" {
		require.Equal(t, number+" "+method, got.first("CSeq"))
	} else {
		require.Equal(t, sent.first("CSeq"), got.first("CSeq"))
	}
	if tag, ok := tagIn(sent.first("From")); ok {
		echoed, _ := tagIn(got.first("From"))
		require.Equal(t, tag, echoed)
	}
	if sent.first("To") != "" {
		require.Contains(t, got.first("To"), "tag=")
	}
	if row.verdict == "answered" { // what cannot be read comes back as it came
		require.Equal(t, sent.count("Via"), got.count("Via"))
		return
	}
	theirs, echoed := viasOf(t, sent), viasOf(t, got)
	require.Len(t, echoed, len(theirs))
	for i := range theirs { // a sender of RFC 2543 gets a branch that it did not write, and ignores it
		require.True(t, strings.HasPrefix(echoed[i], theirs[i]), "%s is not %s", echoed[i], theirs[i])
	}
}

// viasOf lists whom an answer goes back to, and each one's branch.
func viasOf(t *testing.T, m *message) []string {
	t.Helper()
	var list []string
	for _, f := range m.fields {
		if f.name != "Via" {
			continue
		}
		for _, element := range splitList(f.value) {
			v, why := readVia(element)
			require.Empty(t, why, f.value)
			branch, _ := v.get("branch")
			list = append(list, v.transport+" "+v.host+":"+v.port+" "+branch)
		}
	}
	return list
}
