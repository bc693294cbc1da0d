package sip

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

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
	require.Len(t, files, 49+12, "RFC 4475 has 49 messages, RFC 5118 has 12")
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
			if row.name == "dblreq" {
				require.Empty(t, in.calls(), "what stands behind a message is none")
			}
			if row.status == "420" {
				require.Contains(t, answers[0], "Unsupported: nothingSupportsThis, nothingSupportsThisEither\r\n")
			}
		})
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
	if v, err := readVia(firstOf(sent.first("Via"))); err == "" {
		branch, _ := v.get("branch")
		require.Contains(t, got.first("Via"), branch)
	}
}
