package sip

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"tandem/media"
)

// maxCryptos is how many a=crypto lines of a stream are read.
const maxCryptos = 32

// crypto is an a=crypto line (RFC 4568 §9.1): a key that its sender will use, and the number of the proposal.
type crypto struct {
	tag int
	key *media.SRTPKey
}

// newCryptos makes a proposal with a key of its own for each suite.
func newCryptos() ([]crypto, error) {
	suites := media.SRTPSuites()
	all := make([]crypto, 0, len(suites))
	for i, suite := range suites {
		key, err := media.NewSRTPKey(suite)
		if err != nil {
			return nil, err
		}
		all = append(all, crypto{tag: i + 1, key: key})
	}
	return all, nil
}

// String is the value of the line. It holds the key: nobody logs it.
func (c crypto) value() string {
	return fmt.Sprintf("%d %s inline:%s", c.tag, c.key.Suite, base64.StdEncoding.EncodeToString(c.key.Key))
}

// parseCrypto reads the value of an a=crypto line. What a peer may say and we do not do (several keys, a master key
// index, a key derivation rate, streams that are not encrypted or not authenticated) is an error: that proposal is
// passed over, as RFC 4568 §5.1.2 wants it. No error shows a key.
func parseCrypto(value string) (crypto, error) {
	fields := strings.Fields(value)
	if len(fields) < 3 {
		return crypto{}, errors.New("an a=crypto line has a tag, a suite and a key")
	}
	tag, err := strconv.ParseUint(fields[0], 10, 31)
	if err != nil || len(fields[0]) > 9 {
		return crypto{}, errors.New("the tag of an a=crypto line is a number of up to nine digits")
	}
	c := crypto{tag: int(tag), key: &media.SRTPKey{}}
	for _, suite := range media.SRTPSuites() {
		if strings.EqualFold(suite, fields[1]) {
			c.key.Suite = suite
		}
	}
	if c.key.Suite == "" {
		return crypto{}, fmt.Errorf("crypto suite %q is not known", printable(fields[1], 40))
	}
	method, inline, _ := strings.Cut(fields[2], ":")
	if !strings.EqualFold(method, "inline") || strings.Contains(inline, ";") {
		return crypto{}, errors.New("an a=crypto line has one inline: key")
	}
	encoded, params, _ := strings.Cut(inline, "|")
	for param := range strings.SplitSeq(params, "|") {
		if strings.Contains(param, ":") {
			return crypto{}, errors.New("a master key index is not supported")
		}
		if !isLifetime(param) {
			return crypto{}, errors.New("the lifetime of a key is a number or 2^n")
		}
	}
	if c.key.Key, err = base64.RawStdEncoding.DecodeString(strings.TrimRight(encoded, "=")); err != nil {
		return crypto{}, errors.New("the key of an a=crypto line is no base64")
	}
	if err := c.key.Validate(); err != nil {
		return crypto{}, err
	}
	for _, param := range fields[3:] {
		if !strings.HasPrefix(strings.ToUpper(param), "WSH=") { // a hint on the replay window (RFC 4568 §6.3.6)
			return crypto{}, fmt.Errorf("session parameter %q is not supported", printable(param, 40))
		}
	}
	return c, nil
}

// isLifetime reads how many packets a key is good for, which no call of ours reaches.
func isLifetime(s string) bool {
	if s == "" {
		return true
	}
	exponent, power := strings.CutPrefix(s, "2^")
	n, err := strconv.ParseUint(exponent, 10, 64)
	return err == nil && (!power || n <= 48)
}

// cryptosOf lists the proposals of a stream that can be used.
func cryptosOf(attributes []string) []crypto {
	var all []crypto
	for _, value := range attributes[:min(len(attributes), maxCryptos)] {
		c, err := parseCrypto(value)
		if err == nil && !slices.ContainsFunc(all, func(other crypto) bool { return other.tag == c.tag }) {
			all = append(all, c)
		}
	}
	return all
}
