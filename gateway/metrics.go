package gateway

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"tandem/media"
	"tandem/sip"
	"tandem/transcode"
)

// metrics serves what Prometheus collects.
func (a *App) metrics() http.Handler {
	registry := prometheus.NewRegistry()
	gauge := func(name, help string, value func() float64) {
		registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "tandem", Name: name, Help: help}, value))
	}
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	gauge("dialogs_live", "Dialogs that are not terminated.", func() float64 { return float64(a.calls.Live()) })
	gauge("participants_live", "Participants with a device or a phone leg.", func() float64 { return float64(a.people.Live()) })
	gauge("rtp_ports_open", "RTP ports that phone legs hold.", func() float64 { open, _ := a.ports.InUse(); return float64(open) })
	for why, value := range map[string]func(media.Dropped) uint64{
		"ignored":   func(d media.Dropped) uint64 { return d.Ignored },
		"malformed": func(d media.Dropped) uint64 { return d.Malformed },
		"forged":    func(d media.Dropped) uint64 { return d.Forged },
		"unsent":    func(d media.Dropped) uint64 { return d.Unsent },
	} {
		registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Namespace: "tandem", Name: "rtp_dropped_total", Help: "RTP and RTCP packets of phone legs that were not taken, or not sent, and why.",
			ConstLabels: prometheus.Labels{"why": why},
		}, func() float64 { return float64(value(a.ports.Dropped())) }))
	}
	for why, value := range map[string]func(transcode.Dropped) uint64{
		"order": func(d transcode.Dropped) uint64 { return d.Disordered },
		"late":  func(d transcode.Dropped) uint64 { return d.Late },
	} {
		registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Namespace: "tandem", Name: "voice_dropped_total", Help: "Packets of voices that came in disorder or twice, and frames that came too late for a phone to hear.",
			ConstLabels: prometheus.Labels{"why": why},
		}, func() float64 { return float64(value(a.engine.Dropped())) }))
	}
	registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Namespace: "tandem", Name: "voice_overflow_seconds_total", Help: "Sound that phones did not hear because too much waited for them.",
	}, func() float64 { return a.engine.Dropped().Overflow.Seconds() }))
	registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Namespace: "tandem", Name: "browser_packets_decoded_total", Help: "Packets of browsers that were decoded for phones, each once.",
	}, func() float64 { return float64(a.engine.Decoded()) }))
	registry.MustRegister(newTrunkMetrics(a.phone), newCircuitMetrics(a.book), newQualityMetrics(a.calls.Qualities))
	gauge("sip_bans", "SIP senders that are banned now.", func() float64 { return float64(len(a.phone.Bans())) })
	for why, value := range map[string]func(sip.GuardStats) uint64{
		"banned":       func(s sip.GuardStats) uint64 { return s.Banned },
		"rate":         func(s sip.GuardStats) uint64 { return s.Limited },
		"scanner":      func(s sip.GuardStats) uint64 { return s.Scanners },
		"malformed":    func(s sip.GuardStats) uint64 { return s.Malformed },
		"amplifying":   func(s sip.GuardStats) uint64 { return s.Amplifying },
		"unauthorized": func(s sip.GuardStats) uint64 { return s.Failures },
	} {
		registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Namespace: "tandem", Name: "sip_refused_total", Help: "SIP messages that were dropped or refused, and why.",
			ConstLabels: prometheus.Labels{"why": why},
		}, func() float64 { return float64(value(a.phone.GuardStats())) }))
	}
	registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Namespace: "tandem", Name: "sip_bans_total", Help: "SIP senders that were banned.",
	}, func() float64 { return float64(a.phone.GuardStats().Bans) }))
	gauge("sip_connections", "SIP connections over TCP, TLS and WebSocket.", func() float64 { return float64(a.phone.StreamStats().Open) })
	for why, value := range map[string]func(sip.StreamStats) uint64{
		"limit":     func(s sip.StreamStats) uint64 { return s.Refused },
		"handshake": func(s sip.StreamStats) uint64 { return s.Unmet },
		"silent":    func(s sip.StreamStats) uint64 { return s.Silent },
		"slow":      func(s sip.StreamStats) uint64 { return s.Slow },
		"idle":      func(s sip.StreamStats) uint64 { return s.Idle },
		"unread":    func(s sip.StreamStats) uint64 { return s.Unread },
		"broken":    func(s sip.StreamStats) uint64 { return s.Broken },
	} {
		registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Namespace: "tandem", Name: "sip_connections_closed_total", Help: "SIP connections that were refused or closed for what the peer did or did not do.",
			ConstLabels: prometheus.Labels{"why": why},
		}, func() float64 { return float64(value(a.phone.StreamStats())) }))
	}
	gauge("draining", "1 while no new calls are taken.", func() float64 {
		if _, draining := a.drain.deadline(); draining {
			return 1
		}
		return 0
	})
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
}
