package dsp

import "math"

// Lengths of a Stretcher, in samples of 8 kHz.
const (
	stretchMinLag = 20  // 2.5 ms
	stretchMaxLag = 100 // 12.5 ms
	stretchFade   = 60  // 7.5 ms, over which sound fades into itself
)

const (
	stretchLike  = 0.9 // likeness of what fades into each other, from which it is not heard
	stretchRough = 0.8 // the same in a hurry
	// stretchNoise is the likeness, to itself a period later and 1/8000 s later, below which sound is noise: it has no
	// period that a cut could break.
	stretchNoise = 0.5
	stretchQuiet = 100 // peak, about -50 dBFS: here nobody hears any cut
	stretchAny   = -2  // no likeness is less
)

// Stretcher makes sound shorter or longer without changing its pitch: where a wave is like itself a period later, one
// period is taken out or put in, and its ends fade into each other. It keeps nothing from one call to the next. It is
// not safe for concurrent use.
type Stretcher struct {
	next, minLag, maxLag int // lags
	fade                 int
	search               lagSearch
	spare                []int16 // a period that is put in
	sine                 []int32
}

// NewStretcher makes a Stretcher for sound of rate samples per second.
func NewStretcher(rate int) *Stretcher {
	s := &Stretcher{
		next:   rate / 8000,
		minLag: stretchMinLag * rate / 8000,
		maxLag: stretchMaxLag * rate / 8000,
		fade:   stretchFade * rate / 8000,
	}
	s.search = newLagSearch(rate, s.maxLag+s.fade)
	s.spare = make([]int16, s.Span())
	s.sine = make([]int32, s.fade)
	for i := range s.sine {
		s.sine[i] = int32(math.Round(32768 * math.Sin(float64(i+1)/float64(s.fade+1)*math.Pi/2)))
	}
	return s
}

// Span is how many samples Shorten and Lengthen look at, at most. With fewer they find fewer periods.
func (s *Stretcher) Span() int { return s.maxLag + s.fade }

// Shorten takes up to most samples out of pcm and returns how many: the rest is pcm[:len(pcm)-n]. Its first and its last
// sample stay what they were, so it still fits what is before and behind it. 0: no period was found whose loss
// would not be heard, or none is short enough. With force the best one goes all the same.
func (s *Stretcher) Shorten(pcm []int16, most int, force bool) int {
	return s.shorten(pcm, most, least(force))
}

// Lengthen puts up to most samples into pcm, which needs as much capacity, and returns how many: the result is
// pcm[:len(pcm)+n]. Otherwise it is as Shorten.
func (s *Stretcher) Lengthen(pcm []int16, most int, force bool) int {
	return s.lengthen(pcm, most, least(force))
}

func least(force bool) float64 {
	if force {
		return stretchAny
	}
	return stretchLike
}

func (s *Stretcher) shorten(pcm []int16, most int, likeness float64) int {
	lag, noise := s.period(pcm, most, likeness)
	if lag == 0 {
		return 0
	}
	s.cross(pcm[:s.fade], pcm, pcm[lag:], noise)
	copy(pcm[s.fade:], pcm[s.fade+lag:])
	return lag
}

func (s *Stretcher) lengthen(pcm []int16, most int, likeness float64) int {
	lag, noise := s.period(pcm, min(most, s.maxLag, cap(pcm)-len(pcm)), likeness)
	if lag == 0 {
		return 0
	}
	n := len(pcm)
	begin := s.spare[:copy(s.spare, pcm[:lag+s.fade])]
	pcm = pcm[:n+lag]
	copy(pcm[lag+s.fade:], pcm[s.fade:n])
	s.cross(pcm[lag:lag+s.fade], begin[lag:], begin, noise)
	return lag
}

// period finds how much can be taken out or put in at the beginning of pcm, at most most, and whether it is noise. 0:
// nothing.
func (s *Stretcher) period(pcm []int16, most int, likeness float64) (lag int, noise bool) {
	longest := min(most, len(pcm)-s.fade)
	if longest <= 0 {
		return 0, false
	}
	if isQuiet(pcm[:longest+s.fade]) {
		return longest, true
	}
	longest = min(longest, s.maxLag)
	if longest < s.minLag {
		return 0, false
	}
	lag = s.search.ahead(pcm, s.fade, s.minLag, longest)
	like := alike(pcm[:s.fade], pcm[lag:lag+s.fade])
	if like >= likeness {
		return lag, false
	}
	span := pcm[:longest+s.fade]
	if like < stretchNoise && cosine(span[s.next:], span[:len(span)-s.next]) < stretchNoise &&
		steady(pcm[:s.fade], span[longest:]) {
		return longest, true
	}
	return 0, false
}

// cross fills dst with from fading into to, each as long as the fade: what is alike linearly, noise at equal power. dst
// may begin where from does.
func (s *Stretcher) cross(dst, from, to []int16, noise bool) {
	n := s.fade
	dst, from, to = dst[:n], from[:n], to[:n]
	if noise {
		for i := range dst {
			v := (int32(from[i])*s.sine[n-1-i] + int32(to[i])*s.sine[i]) >> 15
			dst[i] = int16(min(max(v, math.MinInt16), math.MaxInt16))
		}
		return
	}
	for i := range dst {
		dst[i] = int16((int32(from[i])*int32(n-i) + int32(to[i])*int32(i+1)) / int32(n+1))
	}
}

func isQuiet(pcm []int16) bool {
	for _, v := range pcm {
		if v > stretchQuiet || v < -stretchQuiet {
			return false
		}
	}
	return true
}

// products are the sums of a·a, a·b and b·b, of equal lengths.
func products(a, b []int16) (aa, ab, bb int64) {
	b = b[:len(a)]
	for i, v := range a {
		x, y := int64(v), int64(b[i])
		aa += x * x
		ab += x * y
		bb += y * y
	}
	return aa, ab, bb
}

// alike is 1 for equal sounds, 0 for strangers, less for opposites. A difference in loudness counts.
func alike(a, b []int16) float64 {
	aa, ab, bb := products(a, b)
	if aa+bb == 0 {
		return 1
	}
	return 2 * float64(ab) / float64(aa+bb)
}

// cosine is alike without the difference in loudness; 0 if either is silent.
func cosine(a, b []int16) float64 {
	aa, ab, bb := products(a, b)
	if aa == 0 || bb == 0 {
		return 0
	}
	return float64(ab) / math.Sqrt(float64(aa)*float64(bb))
}

// steady says that two sounds are about as loud: no beginning, no end between them.
func steady(a, b []int16) bool {
	aa, _, bb := products(a, b)
	return aa <= 2*bb && bb <= 2*aa
}

// lagSearch finds the lag at which sound is most like itself: first at 4 kHz, then finely around what was found.
type lagSearch struct {
	factor int
	coarse []int16
}

// newLagSearch makes a lagSearch in up to longest samples.
func newLagSearch(rate, longest int) lagSearch {
	factor := max(1, rate/4000)
	return lagSearch{factor, make([]int16, longest/factor)}
}

// ahead compares the window at the beginning of pcm with what comes shortest to longest samples later.
func (l *lagSearch) ahead(pcm []int16, window, shortest, longest int) int {
	return l.find(pcm[:window+longest], 0, 1, window, shortest, longest)
}

// back compares the window at the end of pcm with what came shortest to longest samples before.
func (l *lagSearch) back(pcm []int16, window, shortest, longest int) int {
	pcm = pcm[len(pcm)-window-longest:]
	return l.find(pcm, longest, -1, window, shortest, longest)
}

func (l *lagSearch) find(pcm []int16, at, dir, window, shortest, longest int) int {
	f := l.factor
	coarse := l.coarse[:min(len(l.coarse), len(pcm)/f)]
	for i := range coarse {
		sum := 0
		for _, v := range pcm[i*f : (i+1)*f] {
			sum += int(v)
		}
		coarse[i] = int16(sum / f)
	}
	lag := f * bestLag(coarse, at/f, dir, window/f, (shortest+f-1)/f, longest/f)
	return bestLag(pcm, at, dir, window, max(shortest, lag-f), min(longest, lag+f))
}

// bestLag tries every lag from shortest to longest: dir 1 ahead of the window at at, -1 behind. It goes by the square of
// the cosine, whose sign is that of the product.
func bestLag(pcm []int16, at, dir, window, shortest, longest int) int {
	from := at + dir*shortest
	if from < 0 || from+window > len(pcm) {
		return shortest
	}
	a := pcm[at : at+window]
	_, _, energy := products(a, pcm[from:from+window])
	best, lag := math.Inf(-1), shortest
	for l := shortest; ; {
		b := pcm[from : from+window]
		var product int64
		for i, v := range a {
			product += int64(v) * int64(b[i])
		}
		if like := float64(product) * math.Abs(float64(product)) / float64(energy+1); like > best {
			best, lag = like, l
		}
		from += dir
		if l++; l > longest || from < 0 || from+window > len(pcm) {
			return lag
		}
		in, out := int64(pcm[from+window-1]), int64(b[0])
		if dir < 0 {
			in, out = int64(pcm[from]), int64(b[window-1])
		}
		energy += in*in - out*out
	}
}
