package dsp

// wanted is the time from a position to when it is to be played.
func (p *Playout) wanted() int64 {
	const slack = playoutFrame + playoutEarly
	return min(p.late.usual(), p.late.least()+(playoutMost-slack)*p.ms) + slack*p.ms + p.held
}

// adapt makes what waits longer or shorter before n samples are played at t.
func (p *Playout) adapt(t int64, n int) {
	p.short = 0
	if !p.playing || p.fresh || p.rebased || p.wait > 0 || p.late.n == 0 {
		return
	}
	staged, ready := int64(len(p.stage)), int64(0)
	if first := p.waiting.first(); p.waiting.n > 0 && first.from <= p.read {
		ready = first.to - p.read
	}
	spare := staged + ready - int64(n) // of what is there
	excess := t + staged - p.read - p.wanted()
	if !p.drained {
		p.short = max(0, -excess)
	}
	if p.gap > 0 || p.rest > 0 {
		return
	}
	switch {
	case p.drained && spare > 0:
		p.shrink(n, ready, spare, spare)
	case p.drained:
		p.tried = 0
	case excess < 0:
		p.tried += int64(n)
		p.grow(n, ready, -excess)
	case excess < playoutExcess*p.ms:
		p.tried = 0
	default:
		// Growing by a long period overshoots. Where that made the excess, it would only lead to growing again.
		p.tried += int64(n)
		if spare > 0 && (excess > int64(p.stretch.maxLag) || p.tried > playoutPatient*p.ms) {
			p.shrink(n, ready, excess, spare)
		}
	}
}

// look moves some of what is ready to stage, for as much as is looked at.
func (p *Playout) look(n int, ready int64) {
	want := max(p.stretch.Span(), n+p.stretch.maxLag)
	if more := min(int64(want-len(p.stage)), ready); more > 0 {
		p.pull(more)
	}
}

func (p *Playout) shrink(n int, ready, excess, spare int64) {
	p.look(n, ready)
	hurry := excess > playoutHurry*p.ms
	least := stretchLike
	switch {
	case p.drained:
	case excess > int64(p.stretch.maxLag) && p.tried > playoutTry*p.ms || hurry && p.tried > playoutTrySoon*p.ms:
		least = stretchAny
	case hurry && p.tried > playoutTrySoon/2*p.ms:
		least = stretchRough
	}
	most := int(min(excess, spare, int64(len(p.stage))))
	out := p.stretch.shorten(p.stage, most, least)
	if out == 0 {
		return
	}
	p.stage = p.stage[:len(p.stage)-out]
	p.sound = max(0, p.sound-out)
	p.Removed += uint64(out)
	p.changed(hurry || p.drained)
}

func (p *Playout) grow(n int, ready, missing int64) {
	p.look(n, ready)
	hurry := missing > playoutFrame/2*p.ms
	least := stretchLike
	if hurry && p.tried > playoutTrySoon/2*p.ms {
		least = stretchRough
	}
	most := p.stretch.maxLag
	if p.tried <= playoutTrySoon*p.ms { // a short period overshoots less
		most = min(most, int(missing+playoutExcess*p.ms))
	}
	in := p.stretch.lengthen(p.stage, most, least)
	if in == 0 {
		return
	}
	p.stage = p.stage[:len(p.stage)+in]
	if p.sound > 0 {
		p.sound += in
	}
	p.Inserted += uint64(in)
	p.short = max(0, p.short-int64(in))
	p.changed(hurry)
}

// changed lets the delay rest after a change.
func (p *Playout) changed(hurry bool) {
	p.tried = 0
	p.rest = playoutRest * p.ms
	if hurry {
		p.rest = playoutSoon * p.ms
	}
}
