package gateway

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"time"

	"tandem/trunks"
)

// What guards an account that says nothing about it against toll fraud, and the database against a loop.
const (
	defaultNewPerSecond  = 50
	defaultMinutesPerDay = 100_000
	defaultTrunks        = 100
	defaultNumbers       = 10_000
)

// trunk reads one entry of trunks. The error begins with the key.
func (t *TrunkConfig) trunk() (trunks.Trunk, error) {
	allow, err := trunks.ParseNetworks(t.Allow)
	if err != nil {
		return trunks.Trunk{}, err
	}
	wait, err := duration("answerTimeout", t.AnswerTimeout)
	if err != nil {
		return trunks.Trunk{}, err
	}
	probe, err := duration("probe", t.Probe)
	if err != nil {
		return trunks.Trunk{}, err
	}
	read := trunks.Trunk{
		Name: t.Name, Account: t.Account, URI: t.URI, TLSCert: t.TLSCert, TLSKey: t.TLSKey, Username: t.Username, Password: trunks.Secret(t.Password),
		Register: t.Register, Probe: probe, Allow: allow, InboundUsername: t.InboundUsername, InboundPassword: trunks.Secret(t.InboundPassword),
		Codecs: t.Codecs, SRTP: t.SRTP, DTMF: t.DTMF, DTMFInBand: t.DTMFInBand, DelayedOffer: t.DelayedOffer,
		Identity: t.Identity, CountryCode: t.CountryCode, NationalPrefix: t.NationalPrefix,
		InternationalPrefix: t.InternationalPrefix, NumberFormat: t.NumberFormat, Headers: t.Headers, Prefixes: t.Prefixes,
		Priority: t.Priority, Weight: t.Weight, MaxCalls: t.MaxCalls, MaxCallsPerSecond: t.MaxCallsPerSecond, AnswerTimeout: wait, HoldMusic: t.HoldMusic,
		PublicIP: t.PublicIP, Realm: t.Realm, Shared: t.Shared,
		Origin: trunks.OriginFile,
	}
	return read, read.Validate()
}

// duration reads a duration in the lists, which have no flags; where there is none it is 0. The error begins with the key.
func duration(key, s string) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("%s: %q should be a duration, such as 5s", key, s)
	}
	return d, nil
}

// number reads one entry of numbers. The error begins with the key.
func (n *NumberConfig) number() (trunks.Number, error) {
	patience, err := duration("answerTimeout", n.AnswerTimeout)
	if err != nil {
		return trunks.Number{}, err
	}
	read := trunks.Number{
		Number: n.Number, Account: n.Account, CallbackURL: n.CallbackURL, AnswerTimeout: patience, OnNoAnswer: n.OnNoAnswer,
		Announcement: n.Announcement, AnnouncementAnswer: n.AnnouncementAnswer, HoldMusic: n.HoldMusic, Origin: trunks.OriginFile,
	}
	return read, read.Validate()
}

// limits reads what an account may do. The error begins with the key.
func (a *AccountConfig) limits() (trunks.Account, error) {
	otherwise := func(n *int, value int) int {
		if n == nil {
			return value
		}
		return *n
	}
	read := trunks.Account{
		ID: a.ID, MaxCalls: a.MaxCalls, MaxCallsPerSecond: a.MaxCallsPerSecond,
		MaxNewPerSecond: otherwise(a.MaxNewPerSecond, defaultNewPerSecond), AllowedPrefixes: a.AllowedPrefixes,
		MinutesPerDay: otherwise(a.MinutesPerDay, defaultMinutesPerDay), SIPURIs: a.SIPURIs, HoldMusic: a.HoldMusic,
		MaxTrunks: otherwise(a.MaxTrunks, defaultTrunks), MaxNumbers: otherwise(a.MaxNumbers, defaultNumbers),
	}
	return read, read.Validate()
}

// directory is all that the book is made of.
type directory struct {
	trunks   []trunks.Trunk
	numbers  []trunks.Number
	accounts []trunks.Account
}

// directory reads trunks, numbers and what accounts may do. The error names the key and what it should be.
func (c *Config) directory() (d directory, err error) {
	known := func(id string) bool {
		return slices.ContainsFunc(c.Accounts, func(a AccountConfig) bool { return a.ID == id })
	}
	for i := range c.Accounts {
		a, err := c.Accounts[i].limits()
		if err != nil {
			return directory{}, fmt.Errorf("accounts[%d].%w", i, err)
		}
		d.accounts = append(d.accounts, a)
	}
	seen := map[string]bool{}
	for i := range c.Trunks {
		key, t := "trunks["+strconv.Itoa(i)+"]", &c.Trunks[i]
		if seen[t.Account+"/"+t.Name] {
			return directory{}, fmt.Errorf("%s.name: %q should be a name that no other trunk has", key, t.Name)
		}
		seen[t.Account+"/"+t.Name] = true
		read, err := t.trunk()
		if err != nil {
			return directory{}, fmt.Errorf("%s.%w", key, err)
		}
		if !known(t.Account) {
			return directory{}, fmt.Errorf("%s.account: %q should be the id of an account in accounts", key, t.Account)
		}
		d.trunks = append(d.trunks, read)
	}
	for i := range c.Numbers {
		key, n := "numbers["+strconv.Itoa(i)+"]", &c.Numbers[i]
		if seen[n.Account+"/"+n.Number] {
			return directory{}, fmt.Errorf("%s.number: %q is there twice", key, n.Number)
		}
		seen[n.Account+"/"+n.Number] = true
		read, err := n.number()
		if err != nil {
			return directory{}, fmt.Errorf("%s.%w", key, err)
		}
		if !known(n.Account) {
			return directory{}, fmt.Errorf("%s.account: %q should be the id of an account in accounts", key, n.Account)
		}
		d.numbers = append(d.numbers, read)
	}
	return d, nil
}

func (c *Config) validateDirectory() error {
	_, err := c.directory()
	return err
}

// openDirectory writes what the configuration says into the database and opens the book.
func (a *App) openDirectory(ctx context.Context) error {
	a.book = trunks.NewBook()
	a.directory = trunks.NewService(a.book, a.db, a.log)
	if err := a.seed(ctx, &a.cfg); err != nil {
		return err
	}
	talked, err := a.db.Talked(ctx, time.Now().UTC().Truncate(24*time.Hour))
	if err != nil {
		return err
	}
	for account, d := range talked {
		a.book.Spent(account, d)
	}
	return nil
}

func (a *App) seed(ctx context.Context, cfg *Config) error {
	d, err := cfg.directory()
	if err != nil {
		return err
	}
	return a.directory.Seed(ctx, d.trunks, d.numbers, d.accounts)
}

// Reload takes over the trunks, the numbers and what accounts may do from a configuration that was checked. Calls that
// are up keep what they began with. What else has changed waits for the next start, and is named in the log.
func (a *App) Reload(ctx context.Context, cfg Config) error {
	if err := a.seed(ctx, &cfg); err != nil {
		return err
	}
	if err := a.phone.ReloadCertificates(); err != nil {
		a.log.Error("the certificates stay as they were", "error", err)
	}
	a.log.Info("the configuration was read again", "trunks", len(cfg.Trunks), "numbers", len(cfg.Numbers))
	for _, section := range a.cfg.unlike(&cfg) {
		a.log.Warn("a change takes effect at the next start", "section", section)
	}
	return nil
}

// unlike names the sections that Reload does not take over and that differ.
func (c *Config) unlike(other *Config) []string {
	var names []string
	mine, be := reflect.ValueOf(c).Elem(), reflect.ValueOf(other).Elem()
	for section := range mine.Type().Fields() {
		a, b := mine.FieldByIndex(section.Index).Interface(), be.FieldByIndex(section.Index).Interface()
		switch name := section.Tag.Get("yaml"); name {
		case "trunks", "numbers", "-":
		case "accounts":
			if !reflect.DeepEqual(credentials(c.Accounts), credentials(other.Accounts)) {
				names = append(names, name)
			}
		default:
			if !reflect.DeepEqual(a, b) {
				names = append(names, name)
			}
		}
	}
	return names
}

// credentials is what of the accounts needs a start.
func credentials(accounts []AccountConfig) []AccountConfig {
	list := make([]AccountConfig, 0, len(accounts))
	for _, a := range accounts {
		list = append(list, AccountConfig{
			ID: a.ID, Username: a.Username, Password: a.Password, PasswordHash: a.PasswordHash, CallbackSecret: a.CallbackSecret,
		})
	}
	return list
}
