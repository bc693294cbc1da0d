package api

import (
	"math"
	"time"

	"tandem/media"
)

// qualityView says how the sound of a phone leg travels.
type qualityView struct {
	FromPhone   wayView  `json:"fromPhone"`
	ToPhone     wayView  `json:"toPhone"`
	RoundTripMS *float64 `json:"roundTripMs,omitempty"` // absent: the phone sends no RTCP
}

// wayView is one direction. Shares are between 0 and 1.
type wayView struct {
	Packets   uint64   `json:"packets"`
	Lost      float64  `json:"lost"`
	JitterMS  float64  `json:"jitterMs"`
	DelayMS   *float64 `json:"delayMs,omitempty"` // that the gateway's play-out adds; absent: it has none that way
	Concealed float64  `json:"concealed"`
	MOS       float64  `json:"mos,omitempty"`
}

func viewQuality(q media.Quality) *qualityView {
	if q == (media.Quality{}) {
		return nil
	}
	v := &qualityView{FromPhone: viewWay(q.In), ToPhone: viewWay(q.Out)}
	delay := viewMillis(q.Out.Delay)
	v.ToPhone.DelayMS = &delay
	if q.RoundTrip > 0 {
		ms := viewMillis(q.RoundTrip)
		v.RoundTripMS = &ms
	}
	return v
}

func viewWay(w media.Way) wayView {
	return wayView{
		Packets: w.Packets, Lost: rounded(w.Lost, 4), JitterMS: viewMillis(w.Jitter),
		Concealed: rounded(w.Concealed, 4), MOS: rounded(w.MOS, 2),
	}
}

func viewMillis(d time.Duration) float64 { return rounded(d.Seconds()*1000, 1) }

// rounded leaves so many digits behind the point.
func rounded(v float64, digits int) float64 {
	unit := math.Pow(10, float64(digits))
	return math.Round(v*unit) / unit
}
