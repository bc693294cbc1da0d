package dialogs

import "strings"

// maxTokenSearch is the longest User-to-User value that is searched for a token, in bytes.
const maxTokenSearch = 16 << 10

// Token finds the participant's token in the value of a User-to-User header (RFC 7433 §4.1): the data of the first
// element with encoding=jwt, alone or in a comma list in any order, quoted or not. Several headers are joined with
// commas before. False means that there is none, also when the value is malformed before it.
func Token(value string) (string, bool) {
	if len(value) > maxTokenSearch {
		return "", false
	}
	for value != "" {
		var data string
		var ok, jwt bool
		if data, value, ok = field(value, ";,"); !ok {
			return "", false
		}
		for value != "" && value[0] == ';' {
			var parameter string
			if parameter, value, ok = field(value[1:], ";,"); !ok {
				return "", false
			}
			name, word, _ := strings.Cut(parameter, "=")
			jwt = jwt || strings.EqualFold(strings.TrimSpace(name), "encoding") &&
				strings.EqualFold(unquote(strings.TrimSpace(word)), "jwt")
		}
		value = strings.TrimPrefix(value, ",")
		if token := unquote(data); jwt && isToken(token) {
			return token, true
		}
	}
	return "", false
}

// withoutToken returns the elements of a User-to-User value that carry no token, joined by commas: what may be shown. Of
// a value that is malformed or too long nothing is shown.
func withoutToken(value string) string {
	if len(value) > maxTokenSearch {
		return ""
	}
	var kept []string
	for value != "" {
		element, rest, ok := field(value, ",")
		if !ok {
			return ""
		}
		value = strings.TrimPrefix(rest, ",")
		if element != "" && !strings.Contains(strings.ToLower(bare(element)), "encoding=jwt") {
			kept = append(kept, element)
		}
	}
	return strings.Join(kept, ",")
}

// bare returns s without spaces, tabs and quotes.
func bare(s string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(" \t\"", r) {
			return -1
		}
		return r
	}, s)
}

// field cuts s before the first of stops that is in no quoted string. It fails on a quote that is not closed.
func field(s, stops string) (before, rest string, ok bool) {
	inQuotes := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case inQuotes && c == '\\':
			i++
		case c == '"':
			inQuotes = !inQuotes
		case !inQuotes && strings.IndexByte(stops, c) >= 0:
			return strings.TrimSpace(s[:i]), s[i:], true
		}
	}
	return strings.TrimSpace(s), "", !inQuotes
}

// unquote takes the quotes off a quoted-string. No escape is undone: a token has no character that needs one.
func unquote(s string) string {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		return s[1 : len(s)-1]
	}
	return s
}

// isToken says whether s consists of the characters of a JWT (RFC 7515 §7.1).
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.'
	})
}
