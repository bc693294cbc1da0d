package trunks

import (
	"slices"
	"strings"
)

const (
	// minNational is the fewest digits of a national number: what is shorter is an extension or a service.
	minNational = 7
	maxDigits   = 15 // of E.164, without the +
)

// IsE164 says whether s is + and a number of at most 15 digits that does not start with 0 (ITU-T E.164).
func IsE164(s string) bool {
	return len(s) >= 4 && len(s) <= 1+maxDigits && s[0] == '+' && s[1] != '0' && isDigits(s[1:])
}

func isDigits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// national returns what stands before a national number of the trunk's country.
func (t *Trunk) national() string {
	switch {
	case t.NationalPrefix == NoPrefix:
		return ""
	case t.NationalPrefix != "":
		return t.NationalPrefix
	case t.CountryCode == "1":
		return "1"
	case t.CountryCode == "7":
		return "8"
	case slices.Contains(withoutPrefix(), t.CountryCode):
		return ""
	}
	return "0"
}

// withoutPrefix lists countries that dial national numbers as they are (ITU-T, Dialling Procedures).
func withoutPrefix() []string {
	return []string{"30", "34", "39", "45", "47", "48", "351", "352", "354", "356", "357", "371", "372", "376", "377", "378", "420"}
}

// international returns what stands before an international number.
func (t *Trunk) international() string {
	switch {
	case t.InternationalPrefix != "":
		return t.InternationalPrefix
	case t.CountryCode == "1":
		return "011"
	case t.CountryCode == "7":
		return "810"
	}
	return "00"
}

// Normalize returns a number that the trunk sent as E.164. One that can't be told, such as an extension, comes back
// without its separators, and ok is false.
func (t *Trunk) Normalize(number string) (e164 string, ok bool) {
	digits := withoutSeparators(number)
	if strings.HasPrefix(digits, "+") {
		return digits, IsE164(digits)
	}
	if !isDigits(digits) {
		return number, false
	}
	full := ""
	international, national := t.international(), t.national()
	switch {
	case (t.CountryCode != "" || t.InternationalPrefix != "") && strings.HasPrefix(digits, international):
		full = strings.TrimPrefix(digits, international)
	case t.NumberFormat == FormatPlain && (national != "0" || digits[0] != '0'):
		full = digits
	case t.CountryCode == "" || len(digits) < minNational:
		return digits, false
	case national != "" && strings.HasPrefix(digits, national):
		full = t.CountryCode + strings.TrimPrefix(digits, national)
	default:
		full = t.CountryCode + digits
	}
	if len(full) < minNational || !IsE164("+"+full) {
		return digits, false
	}
	return "+" + full, true
}

// withoutSeparators takes out what only makes a number easier to read.
func withoutSeparators(number string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune("-.() /", r) {
			return -1
		}
		return r
	}, number)
}

// Format writes an E.164 number as the trunk wants it. Everything else is left as it is.
func (t *Trunk) Format(number string) string {
	if !IsE164(number) {
		return number
	}
	digits := number[1:]
	switch t.NumberFormat {
	case FormatPlain:
		return digits
	case FormatInternational:
		return t.international() + digits
	case FormatNational:
		if home, ok := strings.CutPrefix(digits, t.CountryCode); ok && t.CountryCode != "" {
			return t.national() + home
		}
		return t.international() + digits
	}
	return number
}
