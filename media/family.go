package media

import (
	"net/netip"
	"strconv"
)

// Family is a version of IP.
type Family int

// The families.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// FamilyOf returns the family of an address; one of IPv4 that is written as IPv6 is of IPv4.
func FamilyOf(a netip.Addr) Family {
	if a.Unmap().Is6() {
		return IPv6
	}
	return IPv4
}

func (f Family) String() string { return "IPv" + strconv.Itoa(int(f)) }
