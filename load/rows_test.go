package load

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// printed keeps what is printed.
func printed(show func(line func(string, ...any))) string {
	var out bytes.Buffer
	show(lines(&out))
	return out.String()
}

func TestRatios(t *testing.T) {
	for _, c := range []struct {
		a, b float64
		want string
	}{
		{3, 4, "x\t0.750\tto reach: at most 0.75\n"},
		{3.01, 4, "x\t0.752\tto reach: at most 0.75 (not reached)\n"},
		{3, 0, ""},
		{0, 4, ""},
	} {
		assert.Equal(t, c.want, printed(func(line func(string, ...any)) { printRatio(line, "x", c.a, c.b, 0.75) }))
	}
}

// TestHeldRows: each row has the generator's own CPU and how late it sent; one that could not be measured says why.
func TestHeldRows(t *testing.T) {
	all := []*contender{
		{name: "one", calls: 20, runs: []Result{
			{CPUMsPerCallSecond: 9, OwnCPUPct: 41, PacerLateMaxMs: 3.25},
			{CPUMsPerCallSecond: 7, OwnCPUPct: 43, PacerLateMaxMs: 5},
			{CPUMsPerCallSecond: 8, OwnCPUPct: 42, PacerLateMaxMs: 4, ToBrowser: FlowResult{LossPct: 2}},
		}},
		{name: "two", missing: "it is Sunday"},
		{name: "three"},
	}
	out := printed(func(line func(string, ...any)) {
		printHeld(line, all)
		printStarved(line, all)
	})
	assert.Contains(t, out, "one\t20\t8.00 ms\t7.00, 9.00\t")
	assert.Contains(t, out, "\t42 %\t4.0 ms\n")
	assert.Contains(t, out, "two\tit is Sunday\n")
	assert.Contains(t, out, "three\t"+notInstalled+"\n")
	assert.NotContains(t, out, "void", "of three runs one lost something")
	all[0].runs = []Result{{ToPhone: FlowResult{LossPct: 2}}}
	assert.Contains(t, printed(func(line func(string, ...any)) { printStarved(line, all) }), "void: one lost 2.0 %")
	all[0].runs = []Result{{ToBrowser: FlowResult{LossPct: 2}}}
	assert.Contains(t, printed(func(line func(string, ...any)) { printStarved(line, all) }), "void: one lost 2.0 %")
}

func TestMarginalMemory(t *testing.T) {
	assert.InDelta(t, 614.4, marginal(load{20, 60}, load{45, 75}), 0.01)
	assert.Zero(t, marginal(load{20, 60}, load{20, 75}))
}

// TestTargetsOfRival: the rows of half load, memory and the published figures show what is to be reached.
func TestTargetsOfRival(t *testing.T) {
	all := contenders(RivalConfig{Calls: 20, Half: 45})
	all[0].runs = []Result{{CPUMsPerCallSecond: 11.4, HoldRSSMB: 60}}
	all[6].runs = []Result{{
		HoldRSSMB: 77, ToBrowser: FlowResult{DelayP50Ms: 0.5, DelayP99Ms: 6}, ToPhone: FlowResult{DelayP50Ms: 0.9, DelayP99Ms: 4},
	}}
	var out bytes.Buffer
	require.NoError(t, printRivals(&out, RivalConfig{}, all, partsReference()))
	assert.Regexp(t, `memory of one more call, from 20 to 45 +696 kB +to reach: under 700\n`, out.String())
	assert.Regexp(t, `worse way +p50 0\.90 ms +to reach: under 1 ms\n +p99 6\.00 ms +to reach: under 5 ms \(not reached\)`, out.String())
	assert.Contains(t, out.String(), liveKitWhere)
	assert.Regexp(t, `CPU against those figures +0\.200 +to reach: at most 0\.2\n`, out.String())
	assert.Regexp(t, `memory against those figures +0\.085 +to reach: at most 0\.1\n`, out.String())

	out.Reset()
	printLiveKitDelay(lines(&out), 13.6, 25.1)
	assert.Contains(t, out.String(), "phone → browser, against those figures\t0.200\tto reach: at most 0.2\n")
	assert.Contains(t, out.String(), "browser → phone, against those figures\t0.201\tto reach: at most 0.2 (not reached)\n")
}

func TestSearchHeld(t *testing.T) {
	for name, c := range map[string]struct {
		fails map[int]int // number of calls → how many tries of it fail
		held  int
		tries string
	}{
		"all":                        {nil, 60, "20 40 60"},
		"not even the first":         {map[int]int{20: 9}, 0, "20 20"},
		"one bad try is forgiven":    {map[int]int{40: 1}, 60, "20 40 40 60"},
		"two of one number are not":  {map[int]int{40: 2}, 20, "20 40 40"},
		"of each number":             {map[int]int{20: 1, 40: 1, 60: 2}, 40, "20 20 40 40 60 60"},
		"what is more is not tried":  {map[int]int{60: 9}, 40, "20 40 60 60"},
		"the last one has two tries": {map[int]int{60: 1}, 60, "20 40 60 60"},
	} {
		var tries []string
		held := searchHeld(20, 20, 60, func(calls int) bool {
			tries = append(tries, fmt.Sprint(calls))
			failed := slices.Index(tries, fmt.Sprint(calls)) // its first try
			return len(tries)-failed > c.fails[calls]
		})
		assert.Equal(t, c.held, held, name)
		assert.Equal(t, c.tries, strings.Join(tries, " "), name)
	}
}

func TestCapacityIsCompared(t *testing.T) {
	assert.Equal(t, "held on one core\tTandem 75, rtpengine 25\nratio\t3.0\tto reach: at least 3, hoped for 4\n",
		printed(func(line func(string, ...any)) { printCapacity(line, [2]int{75, 25}) }))
	assert.Contains(t, printed(func(line func(string, ...any)) { printCapacity(line, [2]int{70, 25}) }), "(not reached)")
	assert.NotContains(t, printed(func(line func(string, ...any)) { printCapacity(line, [2]int{70, 0}) }), "ratio", "there is no rtpengine")
}

// TestIdleCost: memory counts from before the sessions were made, CPU from when they all were.
func TestIdleCost(t *testing.T) {
	before := usage{cpu: time.Second, rss: 1 << 20}
	made := usage{cpu: 5 * time.Second, rss: 3 << 20}
	after := usage{cpu: 5*time.Second + idleFor/200, rss: before.rss + idleSessions*20<<10}
	var out bytes.Buffer
	require.NoError(t, printIdle(&out, before, made, after))
	assert.Equal(t, "500 idle sessions of 2 participants: 0.50 % of a core (to reach: under 1), 20.0 kB each (to reach: 20)\n", out.String())
	out.Reset()
	after.cpu, after.rss = made.cpu+idleFor/50, after.rss+1<<20
	require.NoError(t, printIdle(&out, before, made, after))
	assert.Equal(t, 2, strings.Count(out.String(), "(not reached)"), out.String())
}
