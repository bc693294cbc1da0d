package gateway

import (
	"flag"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the tables of docs/configuration.md anew")

// TestReference holds docs/configuration.md against Config: every section and list has its table, and every key its row,
// with the default that the gateway really has.
func TestReference(t *testing.T) {
	t.Parallel()
	const path = "../docs/configuration.md"
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	want := string(text)
	for name, table := range tables(t) {
		begin, end := "<!-- "+name+" -->\n", "<!-- end of "+name+" -->"
		head, rest, ok := strings.Cut(want, begin)
		require.True(t, ok, "%s has no table %s", path, name)
		_, tail, ok := strings.Cut(rest, end)
		require.True(t, ok, "the table %s of %s has no end", name, path)
		want = head + begin + table + end + tail
	}
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(want), 0o600))
		return
	}
	require.Equal(t, want, string(text), "run go test ./gateway -run TestReference -update")
}

// tables are those of the reference, by section.
func tables(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	var cfg Config
	for section := range reflect.TypeFor[Config]().Fields() {
		name := section.Tag.Get("yaml")
		switch {
		case section.Tag.Get("prefix") != "":
			all[name] = "| key | flag | value | default | means |\n|---|---|---|---|---|\n" +
				rows(t, section.Type, name+".", section.Tag.Get("prefix"), reflect.Value{})
		case section.Type.Kind() == reflect.Slice:
			all[name] = listTable(t, section.Type.Elem(), effective(t, reflect.ValueOf(cfg).FieldByIndex(section.Index)))
		}
	}
	all["media.iceServers"] = listTable(t, reflect.TypeFor[ICEServer](), reflect.Value{})
	return all
}

func listTable(t *testing.T, entry reflect.Type, effective reflect.Value) string {
	t.Helper()
	return "| key | value | default | means |\n|---|---|---|---|\n" + rows(t, entry, "", "", effective)
}

// effective is what an entry of a list becomes that says no more than it must.
func effective(t *testing.T, list reflect.Value) reflect.Value {
	t.Helper()
	switch list.Interface().(type) {
	case []AccountConfig:
		a, err := (&AccountConfig{ID: "a"}).limits()
		require.NoError(t, err)
		return reflect.ValueOf(a)
	case []TrunkConfig:
		trunk, err := (&TrunkConfig{Name: "t", Account: "a"}).trunk()
		require.NoError(t, err)
		return reflect.ValueOf(trunk.WithDefaults())
	case []NumberConfig:
		n, err := (&NumberConfig{Number: "+15550199", Account: "a"}).number()
		require.NoError(t, err)
		return reflect.ValueOf(n)
	}
	require.FailNow(t, "no such list", "%s", list.Type())
	return reflect.Value{}
}

// rows are those of the fields of a section or of an entry of a list.
func rows(t *testing.T, section reflect.Type, key, prefix string, effective reflect.Value) string {
	t.Helper()
	var b strings.Builder
	for f := range section.Fields() {
		name, help := f.Tag.Get("yaml"), f.Tag.Get("help")
		if f.Tag.Get("kong") == "-" {
			continue // a list, with a table of its own
		}
		require.NotEmpty(t, help, "%s says nothing of itself", key+name)
		fmt.Fprintf(&b, "| `%s` |", key+name)
		if prefix != "" {
			fmt.Fprintf(&b, " `--%s` |", prefix+flagName(f))
		}
		fmt.Fprintf(&b, " %s | %s | %s |\n", value(f), otherwise(t, key+name, f, effective), code(help))
	}
	return b.String()
}

// value says what is written behind a key.
func value(f reflect.StructField) string {
	kind, placeholder := f.Type, strings.ToLower(f.Tag.Get("placeholder"))
	words := f.Tag.Get("enum")
	if strings.Contains(placeholder, "|") {
		words = strings.ReplaceAll(f.Tag.Get("placeholder"), "|", ",")
	}
	many := ""
	if kind.Kind() == reflect.Slice {
		many = "list of "
	}
	switch {
	case kind == reflect.TypeFor[time.Duration]() || placeholder == "duration":
		return "duration"
	case kind.Kind() == reflect.Bool:
		return "`true` or `false`"
	case kind == reflect.TypeFor[Secret]():
		return strings.TrimSpace("secret " + map[bool]string{true: "URL"}[placeholder == "url"])
	case words != "":
		return many + "`" + strings.ReplaceAll(words, ",", "`, `") + "`"
	case placeholder == "n":
		return "number"
	}
	return many + f.Tag.Get("placeholder")
}

// otherwise is the default of a key: what the gateway does without it, or the words of its tag.
func otherwise(t *testing.T, key string, f reflect.StructField, effective reflect.Value) string {
	t.Helper()
	said := f.Tag.Get("default")
	if effective.IsValid() {
		if v := effective.FieldByName(f.Name); v.IsValid() && !v.IsZero() && !needed(f.Name) {
			require.Empty(t, said, "%s: the default is known already", key)
			return "`" + strings.ReplaceAll(strings.Trim(fmt.Sprint(v.Interface()), "[]"), " ", ", ") + "`"
		}
		return said // words
	}
	if said == "" {
		return ""
	}
	return "`" + said + "`"
}

// needed says whether effective had to set a key.
func needed(field string) bool {
	return field == "ID" || field == "Name" || field == "Account" || field == "Number"
}

// code shows as code what stands between quotes.
func code(help string) string {
	return regexp.MustCompile(`(^|[\s(])'([^']+)'`).ReplaceAllString(help, "$1`$2`")
}
