package sip

import (
	"net/netip"

	"tandem/media"
)

// familyOfOffer is the IP family of our answer to an offer: that of a stream in it that can be taken. An error says why there
// is none, as description.answer does.
func (c *call) familyOfOffer(offer theirOffer) (media.Family, error) {
	ports := c.agent.ports
	first := ports.Family(offer.family())
	err := c.takes(offer, first)
	if err == nil {
		return first, nil
	}
	for _, other := range []media.Family{media.IPv4, media.IPv6} {
		if other != first && ports.Public(other).IsValid() && c.takes(offer, other) == nil {
			return other, nil
		}
	}
	return 0, err
}

// takes says why an offer cannot be answered by a port of a family.
func (c *call) takes(offer theirOffer, f media.Family) error {
	return newDescription(0, c.shown(netip.AddrPortFrom(c.agent.ports.Public(f), 0)), termsOf(c.trunk)).takes(offer)
}

// family is that of the c= line which counts for the first audio stream; 0: it has none.
func (o theirOffer) family() media.Family {
	for _, m := range o.parsed.MediaDescriptions {
		if m.MediaName.Port.Value == 0 {
			continue
		}
		connection := connectionOf(o.parsed, m)
		switch {
		case connection == nil:
			return 0
		case connection.AddressType == "IP6":
			return media.IPv6
		}
		return media.IPv4
	}
	return 0
}

// familyTowards is the IP family of our offer to a far end at host:port: that of its address where media.listen has it.
func (a *Agent) familyTowards(remote string) media.Family {
	at, err := netip.ParseAddrPort(remote)
	if err != nil {
		return a.ports.Family(0)
	}
	return a.ports.Family(media.FamilyOf(at.Addr()))
}

// openPort gives the call a port of a family. One of the other, of an address that took no call, is given back.
func (c *call) openPort(f media.Family) error {
	if c.port != nil && (c.hasMedia || media.FamilyOf(c.port.Local().Addr()) == f) {
		return nil
	}
	port, err := c.agent.ports.OpenFamily(f)
	if err != nil {
		return err
	}
	if c.port != nil {
		if err := c.port.Close(); err != nil {
			c.log.Warn("sip: closing the media port failed", "error", err)
		}
	}
	c.port = port
	return nil
}

// answerOffer answers an offer that the far end makes in the place of ours: it says in which family the sound flows.
func (c *call) answerOffer(d *description, body []byte) ([]byte, media.PortMedia, error) {
	if d.up {
		return d.answer(body)
	}
	offer, err := readOffer(body)
	if err != nil {
		return nil, media.PortMedia{}, err
	}
	f, err := c.familyOfOffer(offer)
	if err != nil {
		return nil, media.PortMedia{}, err
	}
	if err := c.openPort(f); err != nil {
		return nil, media.PortMedia{}, err
	}
	d.local = c.local()
	return d.answerTo(offer)
}
