package sfu

import (
	"net/netip"

	"tandem/media"
)

// ask lets the devices of a participant say something, each on its goroutine.
func ask[T any](s *Server, participant string, question func(*Device) []T) (all []T) {
	s.mu.Lock()
	var devices []*Device
	for key, d := range s.devices {
		if key.participant == participant {
			devices = append(devices, d)
		}
	}
	s.mu.Unlock()
	for _, d := range devices {
		told := make(chan []T, 1)
		d.post(func() { told <- question(d) })
		select {
		case found := <-told:
			all = append(all, found...)
		case <-d.done:
		}
	}
	return all
}

// Inlets are those of a participant's devices, one for each line of sound that has one.
func (s *Server) Inlets(participant string) []*Inlet {
	return ask(s, participant, func(d *Device) (found []*Inlet) {
		for _, lane := range d.publish.lanes {
			if lane.inlet != nil {
				found = append(found, &Inlet{lane.inlet})
			}
		}
		return found
	})
}

// Outlets say of each line of sound to a participant whether its last packet went out past Pion.
func (s *Server) Outlets(participant string) []bool {
	return ask(s, participant, func(d *Device) (found []bool) {
		for _, sl := range d.subscribe.slots {
			if sl.state == active && sl.kind == media.Audio {
				sl.out.mu.Lock()
				found = append(found, sl.out.outlet != nil && sl.out.outlet.own)
				sl.out.mu.Unlock()
			}
		}
		return found
	})
}

// IdleLines counts the lines to a participant that a stream may use.
func (s *Server) IdleLines(participant string) int {
	return len(ask(s, participant, func(d *Device) (found []*slot) {
		for _, sl := range d.subscribe.slots {
			if sl.state == idle {
				found = append(found, sl)
			}
		}
		return found
	}))
}

// Reroute sends a participant's sound by Pion, or past it again.
func (s *Server) Reroute(participant string, byPion bool) {
	ask(s, participant, func(d *Device) []int {
		if byPion {
			d.subscribe.way.move(netip.AddrPort{})
		} else {
			d.subscribe.connected()
		}
		return nil
	})
}

// EndBandPause lets the pause end in which narrowband must last, at the devices of a participant where it runs.
func (s *Server) EndBandPause(participant string) {
	ask(s, participant, func(d *Device) []int {
		if d.bandTimer.Stop() {
			d.bandTimer.Reset(0)
		}
		return nil
	})
}

// Inlet is one of a device.
type Inlet struct{ i *inlet }

// State is its own, where its packets come from, and whether any came.
func (i *Inlet) State() (open bool, from netip.AddrPort, came bool) {
	i.i.mu.Lock()
	defer i.i.mu.Unlock()
	return i.i.state == inletOpen, i.i.from, len(i.i.free)+len(i.i.waiting) > 0 || i.i.used != nil
}

// Put is a packet of somebody who has no keys.
func (i *Inlet) Put(forged []byte) bool { return i.i.put(forged) }

// SSRC is that of its stream.
func (i *Inlet) SSRC() uint32 { return i.i.ssrc }

// Leave is what happens when the browser's packets come another way.
func (i *Inlet) Leave() { i.i.move(netip.AddrPort{}) }
