package sfu

import "net/netip"

// Inlets are those of a participant's devices, one for each line of sound that has one.
func (s *Server) Inlets(participant string) (all []*Inlet) {
	s.mu.Lock()
	var devices []*Device
	for key, d := range s.devices {
		if key.participant == participant {
			devices = append(devices, d)
		}
	}
	s.mu.Unlock()
	for _, d := range devices {
		told := make(chan []*Inlet, 1)
		d.post(func() {
			var found []*Inlet
			for _, lane := range d.publish.lanes {
				if lane.inlet != nil {
					found = append(found, &Inlet{lane.inlet})
				}
			}
			told <- found
		})
		select {
		case found := <-told:
			all = append(all, found...)
		case <-d.done:
		}
	}
	return all
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
