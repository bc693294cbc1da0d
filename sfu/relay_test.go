package sfu_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/webrtc/v4"
	"github.com/stretchr/testify/require"

	"tandem/sfu"
)

// What forwarding costs is measured against a bare relay of Pion: the same connections and interceptors, one read, one
// write for each listener, and nothing else. Both are in this process, the browsers are in another one, and the two take
// turns, so that what else the machine does hits both alike.

const (
	relayListeners = 10
	relayRounds    = 8
	relayPackets   = 1000 // of a round
	relayPace      = time.Millisecond

	relayGateway, relayBare = "SFU_RELAY_GATEWAY", "SFU_RELAY_BARE"
)

// bareRelay sends what one connection publishes to all others.
type bareRelay struct {
	publishing, subscribing *webrtc.API
	track                   *webrtc.TrackLocalStaticRTP

	mu    sync.Mutex
	peers []*webrtc.PeerConnection
}

func newBareRelay(tb testing.TB) (url string) {
	tb.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(tb, err)
	_ = conn.SetReadBuffer(4 << 20)
	_ = conn.SetWriteBuffer(4 << 20)
	mux := ice.NewUDPMuxDefault(ice.UDPMuxParams{UDPConn: conn})
	api := func(publishing bool) *webrtc.API {
		var s webrtc.SettingEngine
		s.SetICEUDPMux(mux)
		s.SetIncludeLoopbackCandidate(true)
		s.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
		s.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
		var m webrtc.MediaEngine
		require.NoError(tb, registerOpusAnd(&m, nil))
		var chain interceptor.Registry
		require.NoError(tb, webrtc.ConfigureNack(&m, &chain))
		require.NoError(tb, webrtc.ConfigureRTCPReports(&chain))
		if publishing {
			require.NoError(tb, webrtc.ConfigureTWCCSender(&m, &chain))
		}
		return webrtc.NewAPI(webrtc.WithSettingEngine(s), webrtc.WithMediaEngine(&m), webrtc.WithInterceptorRegistry(&chain))
	}
	track, err := webrtc.NewTrackLocalStaticRTP(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus}, "mic", "s")
	require.NoError(tb, err)
	r := &bareRelay{publishing: api(true), subscribing: api(false), track: track}
	web := httptest.NewServer(r)
	tb.Cleanup(func() {
		web.Close()
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, pc := range r.peers {
			_ = pc.GracefulClose()
		}
		_ = mux.Close()
		_ = conn.Close()
	})
	return web.URL
}

// ServeHTTP answers an offer.
func (r *bareRelay) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	offer, err := io.ReadAll(q.Body)
	if err == nil {
		var answer string
		if answer, err = r.answer(q.URL.Path == "/publish", string(offer)); err == nil {
			_, _ = io.WriteString(w, answer)
			return
		}
	}
	http.Error(w, err.Error(), http.StatusInternalServerError)
}

func (r *bareRelay) answer(publishes bool, offer string) (string, error) {
	api := r.subscribing
	if publishes {
		api = r.publishing
	}
	pc, err := api.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return "", err
	}
	r.mu.Lock()
	r.peers = append(r.peers, pc)
	r.mu.Unlock()
	if publishes {
		pc.OnTrack(func(remote *webrtc.TrackRemote, receiver *webrtc.RTPReceiver) {
			go drop(receiver)
			buf := make([]byte, 1500)
			for {
				n, _, err := remote.Read(buf)
				if err != nil {
					return
				}
				_, _ = r.track.Write(buf[:n])
			}
		})
	} else {
		sender, err := pc.AddTrack(r.track)
		if err != nil {
			return "", err
		}
		go drop(sender)
	}
	if err := pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: offer}); err != nil {
		return "", err
	}
	answer, err := pc.CreateAnswer(nil)
	if err != nil {
		return "", err
	}
	gathered := webrtc.GatheringCompletePromise(pc)
	if err := pc.SetLocalDescription(answer); err != nil {
		return "", err
	}
	<-gathered
	return pc.LocalDescription().SDP, nil
}

type rtcpReader interface {
	Read(b []byte) (int, interceptor.Attributes, error)
}

// drop reads RTCP, which Pion's reports want to see.
func drop(r rtcpReader) {
	buf := make([]byte, 1500)
	for {
		if _, _, err := r.Read(buf); err != nil {
			return
		}
	}
}

// BenchmarkRelay prints what a forwarded packet costs, here and in a bare relay.
func BenchmarkRelay(b *testing.B) {
	people := []string{"ann"}
	for i := range relayListeners {
		people = append(people, fmt.Sprint("listener", i))
	}
	g := serve(b, anybody(people...), sfu.Config{})
	cmd := exec.Command(os.Args[0], "-test.run=^TestRelayClients$") //nolint:gosec // this program
	cmd.Env = append(os.Environ(), relayGateway+"="+g.url, relayBare+"="+newBareRelay(b))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(b, err)
	out, err := cmd.StdoutPipe()
	require.NoError(b, err)
	require.NoError(b, cmd.Start())
	b.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(out)
	// round returns the CPU time and the allocations of one forwarded packet.
	round := func(way string) (cost time.Duration, allocs float64) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		began := ownCPU()
		_, err := fmt.Fprintln(in, way, relayPackets)
		require.NoError(b, err)
		require.True(b, lines.Scan(), "the clients are gone")
		got, err := strconv.Atoi(lines.Text())
		require.NoError(b, err, lines.Text())
		cost = ownCPU() - began
		runtime.ReadMemStats(&after)
		require.Greater(b, got, relayPackets*relayListeners*9/10, "packets are lost")
		return cost / time.Duration(got), float64(after.Mallocs-before.Mallocs) / float64(got)
	}
	for _, way := range []string{"gateway", "bare"} {
		round(way) // until they are connected, and warm
	}
	for b.Loop() {
		var ours, bare, ratios, oursAllocs, bareAllocs []float64
		for range relayRounds {
			o, oa := round("gateway")
			r, ra := round("bare")
			ours, bare = append(ours, float64(o)), append(bare, float64(r))
			ratios = append(ratios, float64(o)/float64(r))
			oursAllocs, bareAllocs = append(oursAllocs, oa), append(bareAllocs, ra)
		}
		b.ReportMetric(median(ours), "ns/packet")
		b.ReportMetric(median(bare), "bare-ns/packet")
		b.ReportMetric(median(ratios), "ratio")
		b.ReportMetric(median(oursAllocs), "allocs/packet")
		b.ReportMetric(median(bareAllocs), "bare-allocs/packet")
	}
}

func median(all []float64) float64 {
	slices.Sort(all)
	return all[len(all)/2]
}

// ownCPU is how much CPU this process has used.
func ownCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestRelayClients are the browsers of BenchmarkRelay, in a process of their own. It is no test by itself.
func TestRelayClients(t *testing.T) {
	if os.Getenv(relayGateway) == "" {
		t.Skip("it is run by BenchmarkRelay")
	}
	r := &room{}
	g := &gateway{room: r, url: os.Getenv(relayGateway)}
	var heardByGateway, heardByBare func() int
	var listeners []*browser
	for i := range relayListeners {
		listeners = append(listeners, g.browser(t, fmt.Sprint("listener", i), "d"))
	}
	heardByGateway = func() (n int) {
		for _, l := range listeners {
			n += l.hears("s", "mic").count("v")
		}
		return n
	}
	ann := g.browser(t, "ann", "d")
	mic := ann.track(webrtc.MimeTypeOpus, "s", "mic")
	ann.offerPublish(nil, nil)

	bare := newBrowser(t, g)
	second := bare.track(webrtc.MimeTypeOpus, "s", "mic")
	bareOffer(t, bare.pub, "/publish")
	var bares []*browser
	for range relayListeners {
		l := newBrowser(t, g)
		l.sub = l.connection(true)
		_, err := l.sub.AddTransceiverFromKind(webrtc.RTPCodecTypeAudio, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly})
		require.NoError(t, err)
		bareOffer(t, l.sub, "/subscribe")
		bares = append(bares, l)
	}
	heardByBare = func() (n int) {
		for _, l := range bares {
			n += l.hears("s", "mic").count("v")
		}
		return n
	}
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	mic.until(t, "v", func() bool { return heardByGateway() > 100*relayListeners })
	second.until(t, "v", func() bool { return heardByBare() > 100*relayListeners })

	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		way, count, _ := strings.Cut(lines.Text(), " ")
		n, err := strconv.Atoi(count)
		require.NoError(t, err)
		v, heard := mic, heardByGateway
		if way == "bare" {
			v, heard = second, heardByBare
		}
		before := heard()
		pace := time.NewTicker(relayPace)
		for range n {
			v.say("v")
			<-pace.C
		}
		pace.Stop()
		for last, same := -1, 0; same < 5; { // what is on its way
			<-time.After(10 * time.Millisecond)
			if now := heard(); now == last {
				same++
			} else {
				last, same = now, 0
			}
		}
		fmt.Println(heard() - before) //nolint:forbidigo // it is what the benchmark reads
	}
}

// bareOffer connects to the bare relay.
func bareOffer(t *testing.T, pc *webrtc.PeerConnection, path string) {
	t.Helper()
	offer, err := pc.CreateOffer(nil)
	require.NoError(t, err)
	gathered := webrtc.GatheringCompletePromise(pc)
	require.NoError(t, pc.SetLocalDescription(offer))
	<-gathered
	resp, err := http.Post(os.Getenv(relayBare)+path, "application/sdp", strings.NewReader(pc.LocalDescription().SDP)) //nolint:noctx,gosec // a test's own server
	require.NoError(t, err)
	answer, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusOK, resp.StatusCode, "%s", answer)
	require.NoError(t, pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: string(answer)}))
}
