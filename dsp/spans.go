package dsp

// maxSpans is how many pieces apart from each other a Playout holds; packets that come in order make one.
const maxSpans = 32

// span is the positions from from up to, not including, to.
type span struct{ from, to int64 }

// spans is a set of positions: pieces in order that do not touch.
type spans struct {
	piece [maxSpans]span
	n     int
}

// first is the piece that begins first; empty if there is none.
func (s *spans) first() span {
	if s.n == 0 {
		return span{}
	}
	return s.piece[0]
}

// end is the position after the last piece.
func (s *spans) end() int64 {
	if s.n == 0 {
		return 0
	}
	return s.piece[s.n-1].to
}

// full says that a piece that touches no other has no room.
func (s *spans) full() bool { return s.n == maxSpans }

// add puts a piece in, joined with all that it touches.
func (s *spans) add(a span) {
	i := 0
	for i < s.n && s.piece[i].to < a.from {
		i++
	}
	j := i // pieces i to j-1 are joined
	for j < s.n && s.piece[j].from <= a.to {
		a.from, a.to = min(a.from, s.piece[j].from), max(a.to, s.piece[j].to)
		j++
	}
	if i == j && s.full() {
		return
	}
	copy(s.piece[i+1:], s.piece[j:s.n])
	s.piece[i] = a
	s.n += 1 - (j - i)
}

// missing is the first piece of a that is not in the set; empty: all of it is.
func (s *spans) missing(a span) span {
	for _, p := range s.piece[:s.n] {
		if p.to <= a.from {
			continue
		}
		if p.from > a.from {
			return span{a.from, min(a.to, p.from)}
		}
		a.from = min(a.to, p.to)
	}
	return a
}

// cut takes everything before pos out and returns how many positions that were.
func (s *spans) cut(pos int64) (cut int64) {
	i := 0
	for ; i < s.n && s.piece[i].to <= pos; i++ {
		cut += s.piece[i].to - s.piece[i].from
	}
	s.n = copy(s.piece[:], s.piece[i:s.n])
	if s.n > 0 && s.piece[0].from < pos {
		cut += pos - s.piece[0].from
		s.piece[0].from = pos
	}
	return cut
}
