package interop

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tandem/test/harness"
)

// The credentials under which anybody may register with the registrar.
const (
	registrarUser     = "tandem"
	registrarPassword = "registrar-pass"
	registrarRealm    = "carrier.test"
)

// kamailio is a running proxy and registrar: it stands in the way of every call, record-routes it, and sends it to who
// registered under its Request-URI's user.
type kamailio struct {
	port int // UDP and TCP
	tls  int

	mu     sync.Mutex
	routed []string // the requests within calls that were sent to it by their Route: who sent them, and their method
}

// routedMark begins the line in which kamailio tells of such a request.
const routedMark = "loose-routed: "

// startKamailio runs a proxy until the test ends.
func startKamailio(t *testing.T, ca harness.Authority) *kamailio {
	t.Helper()
	program, err := exec.LookPath("kamailio")
	if err != nil {
		program = "/usr/sbin/kamailio"
	}
	k := &kamailio{port: harness.Port(t), tls: harness.Port(t)}
	dir := t.TempDir()
	cert := ca.Issue(t, dir, "127.0.0.1")
	tlsConfig := filepath.Join(dir, "tls.cfg")
	require.NoError(t, os.WriteFile(tlsConfig, fmt.Appendf(nil, `[server:default]
method = TLSv1.2+
certificate = %s
private_key = %s
[client:default]
method = TLSv1.2+
ca_list = %s
verify_certificate = yes
`, cert, cert, ca.File), 0o600))
	script := filepath.Join(dir, "kamailio.cfg")
	require.NoError(t, os.WriteFile(script, fmt.Appendf(nil, `#!KAMAILIO
debug=2
log_stderror=yes
fork=yes
children=1 # so that its log has the order of what came
tcp_children=2
enable_tls=yes
disable_tcp=no
auto_aliases=no
listen=udp:127.0.0.1:%d
listen=tcp:127.0.0.1:%d
listen=tls:127.0.0.1:%d
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "xlog.so"
loadmodule "maxfwd.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "auth.so"
loadmodule "tls.so"
modparam("tls", "config", "%s")
modparam("usrloc", "db_mode", 0)
modparam("registrar", "min_expires", 30)
modparam("rr", "enable_full_lr", 1)

request_route {
	if (!mf_process_maxfwd_header("10")) { sl_send_reply("483", "Too Many Hops"); exit; }
	if (is_method("CANCEL")) { if (t_check_trans()) t_relay(); exit; }
	if (has_totag()) {
		if (loose_route()) {
			xlog("L_NOTICE", "%s$si:$sp $rm\n");
			t_relay();
			exit;
		}
		if (is_method("ACK") && t_check_trans()) { t_relay(); exit; }
		if (!is_method("ACK")) sl_send_reply("404", "Not here");
		exit;
	}
	if (is_method("REGISTER")) {
		if (!pv_www_authenticate("%s", "%s", "0")) { www_challenge("%s", "1"); exit; }
		save("location");
		exit;
	}
	t_check_trans();
	if (is_method("OPTIONS") && uri==myself) { sl_send_reply("200", "OK"); exit; }
	record_route();
	if (!lookup("location")) { # every other number is the trunk's
		$rU = "%s";
		if (!lookup("location")) { sl_send_reply("404", "Nobody registered"); exit; }
	}
	t_relay();
}
`, k.port, k.port, k.tls, tlsConfig, routedMark, registrarRealm, registrarPassword, registrarRealm, registrarUser), 0o600))
	run(t, exec.Command(program, "-f", script, "-DD", "-E", "-m", "64", "-M", "8", "-Y", dir, "-w", dir), k.read)
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", k.port))
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}, harness.Patience, harness.Patience/200, "kamailio did not start")
	return k
}

// read keeps what kamailio's log says of requests within calls.
func (k *kamailio) read(line string) {
	if _, request, ok := strings.Cut(line, routedMark); ok {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.routed = append(k.routed, strings.TrimSpace(request))
	}
}

// waitRouted waits until requests within calls came from addr by their Route: these and no others, sent again or not.
func (k *kamailio) waitRouted(t *testing.T, addr string, methods ...string) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		k.mu.Lock()
		defer k.mu.Unlock()
		seen := []string{}
		for _, request := range k.routed {
			if from, method, _ := strings.Cut(request, " "); from == addr {
				seen = append(seen, method)
			}
		}
		assert.Equal(c, append([]string{}, methods...), slices.Compact(seen))
	}, harness.Patience, 20*time.Millisecond)
}

// uri is the proxy's address over a transport.
func (k *kamailio) uri(transport string) string {
	port := k.port
	if transport == "tls" {
		port = k.tls
	}
	return fmt.Sprintf("sip:127.0.0.1:%d;transport=%s", port, transport)
}
