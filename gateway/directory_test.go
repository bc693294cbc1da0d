package gateway

import (
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestUnlike changes something in each section: all but what is read again on SIGHUP wait for the next start.
func TestUnlike(t *testing.T) {
	t.Parallel()
	require.Empty(t, (&Config{}).unlike(&Config{Demo: true, Trunks: []TrunkConfig{{}}, Numbers: []NumberConfig{{}}}))
	require.Empty(t, (&Config{Accounts: []AccountConfig{{ID: "a"}}}).unlike(&Config{Accounts: []AccountConfig{{ID: "a", MaxCalls: 1}}}))
	require.Equal(t, []string{"accounts"}, (&Config{}).unlike(&Config{Accounts: []AccountConfig{{ID: "a"}}}))
	sections := 0
	for section := range reflect.TypeFor[Config]().Fields() {
		if section.Tag.Get("prefix") == "" {
			continue
		}
		sections++
		var changed Config
		for _, field := range reflect.ValueOf(&changed).Elem().FieldByIndex(section.Index).Fields() {
			switch field.Kind() {
			case reflect.String:
				field.SetString("changed")
			case reflect.Int, reflect.Int64:
				field.SetInt(1)
			default:
				continue
			}
			break
		}
		require.Equal(t, []string{section.Tag.Get("yaml")}, (&Config{}).unlike(&changed))
	}
	require.Equal(t, 10, sections)
}
