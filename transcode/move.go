package transcode

import (
	"time"

	"github.com/pion/rtp"

	"tandem/media"
)

// deaf takes the packets of a port that nobody listens to any more.
type deaf struct{}

func (deaf) ReceiveRTP(*rtp.Packet, time.Time) {}
func (deaf) Broke(any)                         {}

// Move puts the bridge on another port, where another phone is: its source stays, so those who hear it notice nothing
// but the voice. It must not run beside Update or Close. The port that it leaves is its owner's to close.
func (b *Bridge) Move(port *media.Port, m media.PortMedia) {
	b.port.Start(deaf{})
	b.mu.Lock()
	b.past = b.port.Overall().After(b.past)
	b.port = port
	b.mu.Unlock()
	b.up.update(m, b.engine.now())
	b.agreed(b.down.move(port, m))
	b.watcher.update(m, b.engine.now())
	b.watcher.move(port.Heard, b.engine.now())
	port.Update(m)
	port.Start(&b.up)
}

// move sends to another phone from now on. It has not heard our clock yet.
func (d *downlink) move(to phone, m media.PortMedia) (anew bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.phone, d.line.marked = to, false
	return d.agree(m)
}
