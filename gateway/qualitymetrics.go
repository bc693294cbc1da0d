package gateway

import (
	"github.com/prometheus/client_golang/prometheus"

	"tandem/media"
)

// qualityMetrics tells Prometheus how the sound of the legs travels that are up.
type qualityMetrics struct {
	legs                                     func() []media.Quality
	mos, lost, concealed, jitter, delay, rtt *prometheus.Desc
}

func newQualityMetrics(legs func() []media.Quality) *qualityMetrics {
	way := []string{"way"}
	return &qualityMetrics{
		legs:      legs,
		mos:       prometheus.NewDesc("tandem_leg_mos", "Mean opinion score (ITU-T G.107) of the phone legs that are up; way is from or to the phone.", way, nil),
		lost:      prometheus.NewDesc("tandem_leg_lost_ratio", "Share of the packets of a phone leg that got lost.", way, nil),
		concealed: prometheus.NewDesc("tandem_leg_concealed_ratio", "Share of the sound of a phone leg that did not come in time and is made up.", way, nil),
		jitter:    prometheus.NewDesc("tandem_leg_jitter_seconds", "Jitter of a phone leg (RFC 3550).", way, nil),
		delay:     prometheus.NewDesc("tandem_leg_playout_delay_seconds", "What the gateway's play-out adds to the delay of the sound to a phone.", nil, nil),
		rtt:       prometheus.NewDesc("tandem_leg_round_trip_seconds", "Round-trip time of a phone leg, where the phone sends RTCP.", nil, nil),
	}
}

// Describe is part of prometheus.Collector.
func (m *qualityMetrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.mos, m.lost, m.concealed, m.jitter, m.delay, m.rtt} {
		to <- d
	}
}

// Collect is part of prometheus.Collector.
func (m *qualityMetrics) Collect(to chan<- prometheus.Metric) {
	legs := m.legs()
	for way, of := range map[string]func(media.Quality) media.Way{
		"from": func(q media.Quality) media.Way { return q.In },
		"to":   func(q media.Quality) media.Way { return q.Out },
	} {
		var mos, lost, concealed, jitter []float64
		for _, q := range legs {
			w := of(q)
			if w.MOS > 0 {
				mos = append(mos, w.MOS)
			}
			lost, concealed, jitter = append(lost, w.Lost), append(concealed, w.Concealed), append(jitter, w.Jitter.Seconds())
		}
		to <- spread(m.mos, mos, []float64{1.5, 2, 2.5, 3, 3.5, 4, 4.3}, way)
		to <- spread(m.lost, lost, []float64{0, 0.001, 0.01, 0.03, 0.1, 0.3}, way)
		to <- spread(m.concealed, concealed, []float64{0, 0.001, 0.01, 0.03, 0.1, 0.3}, way)
		to <- spread(m.jitter, jitter, []float64{0.001, 0.005, 0.01, 0.02, 0.05, 0.1}, way)
	}
	var delays, trips []float64
	for _, q := range legs {
		delays = append(delays, q.Out.Delay.Seconds())
		if q.RoundTrip > 0 {
			trips = append(trips, q.RoundTrip.Seconds())
		}
	}
	to <- spread(m.delay, delays, []float64{0, 0.02, 0.05, 0.1, 0.2})
	to <- spread(m.rtt, trips, []float64{0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1})
}

// spread is a histogram of the moment.
func spread(of *prometheus.Desc, values, bounds []float64, labels ...string) prometheus.Metric {
	buckets, sum := make(map[float64]uint64, len(bounds)), 0.0
	for _, b := range bounds {
		buckets[b] = 0
		for _, v := range values {
			if v <= b {
				buckets[b]++
			}
		}
	}
	for _, v := range values {
		sum += v
	}
	return prometheus.MustNewConstHistogram(of, uint64(len(values)), sum, buckets, labels...)
}
