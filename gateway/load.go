package gateway

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/goccy/go-yaml"
)

// EnvPrefix begins the name of every environment variable that sets a key.
const EnvPrefix = "TANDEM_"

// File is a configuration file that was read but not yet merged with environment and flags.
type File struct {
	values  map[string]any // by flag name, the scalars that the file sets
	content Config         // for what has no flag: accounts, trunks, numbers, ICE servers
}

// ReadFile reads a configuration file. An empty path is an empty file. Unknown keys are errors that name them.
func ReadFile(path string) (*File, error) {
	if path == "" {
		return &File{}, nil
	}
	text, err := os.ReadFile(path) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, fmt.Errorf("--config: %w", err)
	}
	f, err := ParseFile(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

// ParseFile is ReadFile for text that is at hand.
func ParseFile(text []byte) (*File, error) {
	f := &File{values: map[string]any{}}
	if len(strings.TrimSpace(string(text))) == 0 {
		return f, nil
	}
	// Durations are read by kong, whose error names the key.
	durations := yaml.CustomUnmarshaler(func(*time.Duration, []byte) error { return nil })
	if err := yaml.UnmarshalWithOptions(text, &f.content, yaml.Strict(), durations); err != nil {
		return nil, errors.New(oneLine(yaml.FormatError(err, false, false)))
	}
	var raw map[string]any
	if err := yaml.Unmarshal(text, &raw); err != nil {
		return nil, errors.New(oneLine(err.Error()))
	}
	f.flatten(raw)
	return f, nil
}

// Explain names the key instead of the flag in an error of the command line's parser, unless the flag was given there:
// then it came from the file or the environment. The error is one line.
func Explain(err error, args []string) error {
	if err == nil {
		return nil
	}
	text := oneLine(err.Error())
	for flag, key := range flagKeys() {
		given := slices.ContainsFunc(args, func(a string) bool { return a == flag || strings.HasPrefix(a, flag+"=") })
		if !given {
			text = strings.ReplaceAll(text, flag+":", key+":")
		}
	}
	return errors.New(text)
}

// flagKeys maps each flag, with its dashes, to its key.
func flagKeys() map[string]string {
	keys := map[string]string{}
	for section := range reflect.TypeFor[Config]().Fields() {
		prefix := section.Tag.Get("prefix")
		if prefix == "" {
			continue
		}
		for field := range section.Type.Fields() {
			if field.Tag.Get("kong") != "-" {
				keys["--"+prefix+flagName(field)] = section.Tag.Get("yaml") + "." + field.Tag.Get("yaml")
			}
		}
	}
	return keys
}

// flatten notes what the file sets under the names of the flags.
func (f *File) flatten(raw map[string]any) {
	top := reflect.TypeFor[Config]()
	for section := range top.Fields() {
		keys, ok := raw[section.Tag.Get("yaml")].(map[string]any)
		prefix := section.Tag.Get("prefix")
		if !ok || prefix == "" {
			continue
		}
		for field := range section.Type.Fields() {
			if field.Tag.Get("kong") == "-" {
				continue
			}
			value, set := keys[field.Tag.Get("yaml")]
			if set && value != nil {
				f.values[prefix+flagName(field)] = value
			}
		}
	}
}

func flagName(field reflect.StructField) string {
	if name := field.Tag.Get("name"); name != "" {
		return name
	}
	return strings.ToLower(field.Name)
}

// Resolver gives kong the values of environment and file for flags that the command line does not set.
func (f *File) Resolver() kong.Resolver {
	return kong.ResolverFunc(func(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
		if value, ok := os.LookupEnv(EnvName(flag.Name)); ok {
			return value, nil
		}
		if value, ok := f.values[flag.Name]; ok {
			if list, isList := value.([]any); isList {
				words := make([]string, len(list))
				for i, v := range list {
					words[i] = fmt.Sprint(v)
				}
				return strings.Join(words, ","), nil
			}
			return fmt.Sprint(value), nil
		}
		return nil, nil //nolint:nilnil // kong's way to say "not set here"
	})
}

// EnvName is the environment variable of a flag.
func EnvName(flag string) string {
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// Complete adds from the file what has no flag, fills in defaults and checks everything. The error is one line
// that names the key and what it should be.
func (f *File) Complete(cfg *Config) error {
	cfg.Accounts = append(cfg.Accounts, f.content.Accounts...)
	cfg.Trunks = append(cfg.Trunks, f.content.Trunks...)
	cfg.Numbers = f.content.Numbers
	cfg.Media.ICEServers = f.content.Media.ICEServers
	return cfg.Check()
}

// Defaults is the configuration that an empty file gives.
func Defaults() Config {
	var cfg Config
	parser, err := kong.New(&cfg)
	if err == nil {
		_, err = parser.Parse(nil)
	}
	if err != nil {
		panic("gateway: the defaults in Config's tags are wrong: " + err.Error())
	}
	return cfg
}

// Load reads a file's text with the environment, without flags.
func Load(text []byte) (Config, error) {
	f, err := ParseFile(text)
	if err != nil {
		return Config{}, err
	}
	var cfg Config
	parser, err := kong.New(&cfg, kong.Resolvers(f.Resolver()))
	if err != nil {
		return Config{}, err
	}
	if _, err := parser.Parse(nil); err != nil {
		return Config{}, Explain(err, nil)
	}
	return cfg, f.Complete(&cfg)
}

// oneLine makes an error of several lines readable in one.
func oneLine(s string) string {
	return strings.Join(strings.Fields(s), " ")
}
