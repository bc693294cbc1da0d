package load

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	firstRate    = 100.0 // calls per second
	lastRate     = 6000.0
	rateStep     = 1.5
	bisections   = 3
	ringingLimit = 50 * time.Millisecond // p99 from INVITE to 180
	tryingLimit  = 20 * time.Millisecond // from INVITE to 100
	burstCalls   = 200
	callerPool   = 1000 // participants that call, in turn
	callerPorts  = 2000 // calls for which the gateway has media ports, those that rest counted
	signalSteps  = 4 * time.Second
	signalRounds = 3
)

// SignalConfig is a run that measures set-up and end of calls. The zero value is a run.
type SignalConfig struct {
	Gateway []string      // how the gateway is started, --config FILE is appended; empty: this program with serve
	Bare    []string      // how ServeBare is started, --sip and --http are appended; empty: this program with bench bare
	Step    time.Duration // of each rate; 0: four seconds
	Rounds  int           // how often both are searched; below 1: three
	JSON    bool          // print the SignalResult instead of a table
	Log     *slog.Logger  // nil: nothing is logged
}

// RateResult is what one far end reached.
type RateResult struct {
	CallsPerSecond float64 `json:"callsPerSecond"` // without a retransmission, each answered, and p99 to 180 below 50 ms
	RingingP50Ms   float64 `json:"ringingP50Ms"`   // INVITE to 180, at that rate
	RingingP99Ms   float64 `json:"ringingP99Ms"`
	CPUUsPerCall   float64 `json:"cpuUsPerCall"` // of its process, at that rate
}

// SignalResult is what RunSignalling found.
type SignalResult struct {
	Bare    RateResult `json:"bare"`
	Gateway RateResult `json:"gateway"`
	Ratio   float64    `json:"ratio"`  // the median of Ratios, and Bare and Gateway are of that round
	Ratios  []float64  `json:"ratios"` // of each round, ascending

	HalfCalls       int     `json:"halfCalls"`       // at half of the gateway's rate
	HalfLateTrying  int     `json:"halfLateTrying"`  // first answers later than 20 ms
	HalfTryingMaxMs float64 `json:"halfTryingMaxMs"` // the latest

	Calls    int `json:"calls"`    // that the gateway answered, over all, by the caller's count
	Recorded int `json:"recorded"` // dialogs that it has as TERMINATED

	BurstAnswered int     `json:"burstAnswered"` // of 200 in the first second after the start
	BurstRefused  int     `json:"burstRefused"`  // with 503
	BurstLost     int     `json:"burstLost"`
	BurstP99Ms    float64 `json:"burstP99Ms"` // INVITE to 180, or to the refusal
}

// target is a far end under load.
type target struct {
	child    *child
	caller   *caller
	answered int // calls that it answered 200, by the caller's count
}

func (t *target) stop() {
	t.caller.close()
	t.child.stop()
}

// RunSignalling measures how many calls per second the gateway sets up and ends, beside the SIP library alone in the same
// run, and what becomes of 200 calls in the second after its start.
func RunSignalling(ctx context.Context, cfg SignalConfig, out io.Writer) (SignalResult, error) {
	var r SignalResult
	if err := cfg.defaults(); err != nil {
		return r, err
	}
	dir, err := os.MkdirTemp("", "tandem-bench-")
	if err != nil {
		return r, fmt.Errorf("load: temporary directory: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := cfg.measureRates(ctx, dir, &r); err != nil {
		return r, err
	}
	if err := cfg.measureBurst(ctx, dir, &r); err != nil {
		return r, err
	}
	return r, r.print(out, cfg.JSON)
}

func (c *SignalConfig) defaults() error {
	c.Step = cmp.Or(c.Step, signalSteps)
	if c.Rounds < 1 {
		c.Rounds = signalRounds
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("load: this program's path: %w", err)
	}
	if len(c.Gateway) == 0 {
		c.Gateway = []string{self, "serve"}
	}
	if len(c.Bare) == 0 {
		c.Bare = []string{self, "bench", "bare"}
	}
	return nil
}

// startBare starts the SIP library alone.
func (c *SignalConfig) startBare(ctx context.Context, dir string) (*target, error) {
	ports, err := freePorts(ctx, 2)
	if err != nil {
		return nil, err
	}
	sipAddr, httpAddr := fmt.Sprintf("127.0.0.1:%d", ports[0]), fmt.Sprintf("127.0.0.1:%d", ports[1])
	argv := append(slices.Clone(c.Bare), "--sip", sipAddr, "--http", httpAddr)
	child, err := startChild(ctx, argv, "http://"+httpAddr, filepath.Join(dir, "bare.log"))
	if err != nil {
		return nil, err
	}
	caller, err := newCaller(ctx, sipAddr, nil)
	if err != nil {
		child.stop()
		return nil, err
	}
	return &target{child: child, caller: caller}, nil
}

// startGateway starts a gateway of its own with so many participants that may call in.
func (c *SignalConfig) startGateway(ctx context.Context, dir, name string, pool int) (*target, *rest, []string, error) {
	dir = filepath.Join(dir, name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, nil, nil, fmt.Errorf("load: %w", err)
	}
	path, httpAddr, sipAddr, err := gatewayConfig(ctx, dir, "sip:127.0.0.1:9;transport=udp", Config{Calls: callerPorts, Codec: pcmu})
	if err != nil {
		return nil, nil, nil, err
	}
	child, err := startChild(ctx, append(slices.Clone(c.Gateway), "--config", path), "http://"+httpAddr, filepath.Join(dir, "gateway.log"))
	if err != nil {
		return nil, nil, nil, err
	}
	api := newREST("http://" + httpAddr)
	ids, tokens, err := callersOf(ctx, api, pool)
	if err == nil {
		var caller *caller
		if caller, err = newCaller(ctx, sipAddr, tokens); err == nil {
			return &target{child: child, caller: caller}, api, ids, nil
		}
	}
	err = fmt.Errorf("%w\nthe gateway's log ends with:\n%s", err, child.tail())
	child.stop()
	return nil, nil, nil, err
}

// callersOf makes participants that may call in.
func callersOf(ctx context.Context, api *rest, n int) (ids, tokens []string, err error) {
	ids, tokens = make([]string, n), make([]string, n)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(setupAtOnce)
	for i := range n {
		group.Go(func() (err error) {
			ids[i], tokens[i], err = api.createParticipant(ctx, "bench")
			return err
		})
	}
	return ids, tokens, group.Wait()
}

// measureRates finds what the library alone and the gateway reach, a step of the one after a step of the other, so that
// whatever else the machine does disturbs both alike. One stall in the wrong second lowers what a search finds, of either:
// so the median of several rounds counts.
func (c *SignalConfig) measureRates(ctx context.Context, dir string, r *SignalResult) error {
	bare, err := c.startBare(ctx, dir)
	if err != nil {
		return err
	}
	defer bare.stop()
	t, api, ids, err := c.startGateway(ctx, dir, "rate", callerPool)
	if err != nil {
		return err
	}
	defer t.stop()
	defer api.client.CloseIdleConnections()
	rounds := make([]signalRound, c.Rounds)
	for i := range rounds {
		if rounds[i], err = c.round(ctx, bare, t); err != nil {
			return err
		}
	}
	r.judge(rounds)
	half, err := t.place(ctx, r.Gateway.CallsPerSecond/2, c.Step)
	if err != nil {
		return err
	}
	r.HalfCalls = len(half)
	for _, a := range half {
		if a.trying.IsZero() {
			r.HalfLateTrying++
			continue
		}
		waited := a.trying.Sub(a.invited)
		r.HalfTryingMaxMs = max(r.HalfTryingMaxMs, ms(waited))
		if waited > tryingLimit {
			r.HalfLateTrying++
		}
	}
	if err := sleep(ctx, settleTime); err != nil {
		return err
	}
	r.Calls = t.answered
	r.Recorded, err = recorded(ctx, api, ids)
	return err
}

// signalRound is what both reached in one round.
type signalRound struct{ bare, gateway RateResult }

func (r signalRound) ratio() float64 { return r.gateway.CallsPerSecond / r.bare.CallsPerSecond }

// round searches once for what each reaches.
func (c *SignalConfig) round(ctx context.Context, bare, gateway *target) (r signalRound, err error) {
	searches := [2]*search{newSearch(bare), newSearch(gateway)}
	for !searches[0].over() || !searches[1].over() {
		for _, s := range searches {
			if s.over() {
				continue
			}
			if err := c.step(ctx, s); err != nil {
				return r, err
			}
		}
	}
	if r.bare, err = searches[0].result(); err != nil {
		return r, err
	}
	r.gateway, err = searches[1].result()
	return r, err
}

// judge takes the round whose ratio is the median; of an even number, the lower of the two in the middle.
func (r *SignalResult) judge(rounds []signalRound) {
	slices.SortFunc(rounds, func(a, b signalRound) int { return cmp.Compare(a.ratio(), b.ratio()) })
	for _, round := range rounds {
		r.Ratios = append(r.Ratios, round.ratio())
	}
	median := rounds[(len(rounds)-1)/2]
	r.Bare, r.Gateway, r.Ratio = median.bare, median.gateway, median.ratio()
}

// place makes calls and counts those that were answered.
func (t *target) place(ctx context.Context, rate float64, duration time.Duration) ([]*attempt, error) {
	calls, err := t.caller.place(ctx, rate, duration)
	for _, a := range calls {
		if a.status == http.StatusOK {
			t.answered++
		}
	}
	return calls, err
}

// recorded counts the dialogs that the gateway has as over.
func recorded(ctx context.Context, api *rest, ids []string) (over int, err error) {
	for _, id := range ids {
		var list []struct {
			State string `json:"state"`
		}
		if err := api.do(ctx, http.MethodGet, "/participants/"+id+"/dialogs", nil, &list); err != nil {
			return 0, err
		}
		for _, d := range list {
			if d.State == "TERMINATED" {
				over++
			}
		}
	}
	return over, nil
}

// search is for the highest rate at which all goes well: by steps of a half, then between the last two. A rate that
// fails is tried once more, since machines stall.
type search struct {
	target    *target
	rate      float64 // to be tried next
	failed    bool    // it failed once
	low, high float64 // what went well and what did not; 0: nothing yet
	halved    int
	best      RateResult // at low
}

func newSearch(t *target) *search { return &search{target: t, rate: firstRate} }

func (s *search) over() bool { return s.halved >= bisections || s.rate > lastRate }

// took notes how the present rate went, and chooses the next.
func (s *search) took(got RateResult, good bool) {
	if !good && !s.failed {
		s.failed = true
		return
	}
	s.failed = false
	if good {
		s.low, s.best = s.rate, got
	} else {
		s.high = s.rate
	}
	if s.high == 0 {
		s.rate *= rateStep
		return
	}
	s.halved++
	s.rate = (s.low + s.high) / 2
}

func (s *search) result() (RateResult, error) {
	if s.low == 0 {
		return s.best, fmt.Errorf("load: not even %g calls per second go well", firstRate)
	}
	return s.best, nil
}

// step tries a search's next rate.
func (c *SignalConfig) step(ctx context.Context, s *search) error {
	got, good, err := c.rate(ctx, s.target, s.rate)
	if err == nil {
		s.took(got, good)
	}
	return err
}

// rate tries one rate.
func (c *SignalConfig) rate(ctx context.Context, t *target, rate float64) (RateResult, bool, error) {
	before, err := processUsage(t.child.pid())
	if err != nil {
		return RateResult{}, false, err
	}
	calls, err := t.place(ctx, rate, c.Step)
	if err != nil {
		return RateResult{}, false, err
	}
	after, err := processUsage(t.child.pid())
	if err != nil {
		return RateResult{}, false, err
	}
	ringing := make([]time.Duration, 0, len(calls))
	repeats, failed := 0, 0
	for _, a := range calls {
		repeats += a.repeats
		if a.over.IsZero() || a.status != http.StatusOK || a.ringing.IsZero() {
			failed++
			continue
		}
		ringing = append(ringing, a.ringing.Sub(a.invited))
	}
	slices.Sort(ringing)
	r := RateResult{
		CallsPerSecond: rate, RingingP50Ms: ms(percentile(ringing, 50)), RingingP99Ms: ms(percentile(ringing, 99)),
		CPUUsPerCall: float64((after.cpu - before.cpu).Microseconds()) / float64(len(calls)),
	}
	slow := calls[len(calls)-1].invited.Sub(calls[0].invited) > c.Step+c.Step/50 // our own invitations came too late
	good := repeats == 0 && failed == 0 && !slow && r.RingingP99Ms < ms(ringingLimit)
	c.Log.Info("load: rate", "pid", t.child.pid(), "callsPerSecond", rate, "usPerCall", r.CPUUsPerCall, "slow", slow, "repeats", repeats, "failed", failed, "p99ms", r.RingingP99Ms, "good", good)
	return r, good, sleep(ctx, settleTime)
}

// measureBurst calls a gateway that has just started.
func (c *SignalConfig) measureBurst(ctx context.Context, dir string, r *SignalResult) error {
	t, api, _, err := c.startGateway(ctx, dir, "burst", burstCalls)
	if err != nil {
		return err
	}
	defer t.stop()
	defer api.client.CloseIdleConnections()
	calls, err := t.place(ctx, burstCalls, time.Second)
	if err != nil {
		return err
	}
	var waits []time.Duration
	for _, a := range calls {
		switch {
		case a.status == http.StatusOK && !a.over.IsZero() && !a.ringing.IsZero():
			r.BurstAnswered++
			waits = append(waits, a.ringing.Sub(a.invited))
		case a.status == http.StatusServiceUnavailable:
			r.BurstRefused++
			waits = append(waits, a.over.Sub(a.invited))
		default:
			r.BurstLost++
		}
	}
	slices.Sort(waits)
	r.BurstP99Ms = ms(percentile(waits, 99))
	return nil
}

// print writes the result as a table, or as JSON.
func (r *SignalResult) print(out io.Writer, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		if err := enc.Encode(r); err != nil {
			return fmt.Errorf("load: print: %w", err)
		}
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		_, _ = fmt.Fprintf(w, name+"\t"+format+"\n", args...) // Flush tells
	}
	line("calls per second", "%.0f without a retransmission (to reach: 300, and a ratio of 0.2)", r.Gateway.CallsPerSecond)
	line("the SIP library alone", "%.0f, ratio %.2f: the median of %.2f", r.Bare.CallsPerSecond, r.Ratio, r.Ratios)
	line("INVITE to 180 p50, p99", "%.1f ms, %.1f ms (to reach: p99 below 50); alone %.1f ms, %.1f ms",
		r.Gateway.RingingP50Ms, r.Gateway.RingingP99Ms, r.Bare.RingingP50Ms, r.Bare.RingingP99Ms)
	line("CPU of a call", "%.0f µs; alone %.0f µs", r.Gateway.CPUUsPerCall, r.Bare.CPUUsPerCall)
	line("100 later than 20 ms", "%d of %d at half that rate, the latest after %.1f ms (to reach: 0)", r.HalfLateTrying, r.HalfCalls, r.HalfTryingMaxMs)
	line("recorded as over", "%d of %d calls", r.Recorded, r.Calls)
	line("200 calls in one second", "%d answered, %d refused with 503, %d lost (to reach: 0 lost) after a cold start; p99 %.1f ms",
		r.BurstAnswered, r.BurstRefused, r.BurstLost, r.BurstP99Ms)
	if err := w.Flush(); err != nil {
		return fmt.Errorf("load: print: %w", err)
	}
	return nil
}
