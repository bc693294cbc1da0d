package gateway

import (
	"fmt"
	"os"
	"time"

	"tandem/dialogs"
	"tandem/sounds"
	"tandem/trunks"
)

// SoundsConfig is what may be played to phones.
type SoundsConfig struct {
	Folder       string        `yaml:"folder" default:"" placeholder:"FOLDER" help:"Where sounds are that applications name by file; empty: nowhere."`
	Allow        []string      `yaml:"allow" placeholder:"URL" help:"Sounds may be fetched from addresses that begin so."`
	AllowPrivate bool          `name:"allow-private" yaml:"allowPrivate" default:"false" help:"A host name of sounds.allow may lead to a private address."`
	MaxBytes     int64         `name:"max-bytes" yaml:"maxBytes" default:"10485760" placeholder:"N" help:"The longest file, in bytes."`
	MaxLength    time.Duration `name:"max-length" yaml:"maxLength" default:"10m" help:"How long a sound may play."`
	CacheBytes   int           `name:"cache-bytes" yaml:"cacheBytes" default:"67108864" placeholder:"N" help:"Memory for sounds that were read."`
}

func (c *Config) validateSounds() error {
	s := &c.Sounds
	if s.Folder != "" {
		if info, err := os.Stat(s.Folder); err != nil || !info.IsDir() {
			return fmt.Errorf("sounds.folder: %q should be a folder that can be read", s.Folder)
		}
	}
	for i, prefix := range s.Allow {
		if err := sounds.CheckAllow(prefix); err != nil {
			return fmt.Errorf("sounds.allow[%d]: %w", i, err)
		}
	}
	if s.MaxBytes < 1 || s.CacheBytes < 1 {
		return fmt.Errorf("sounds.maxBytes, sounds.cacheBytes: should be more than 0")
	}
	if s.MaxLength <= 0 || s.MaxLength > time.Hour {
		return fmt.Errorf("sounds.maxLength: %s should be more than 0 and at most 1h", s.MaxLength)
	}
	return nil
}

func (a *App) openSounds() error {
	var err error
	a.sounds, err = sounds.New(sounds.Config{
		Folder: a.cfg.Sounds.Folder, Allow: a.cfg.Sounds.Allow, AllowPrivate: a.cfg.Sounds.AllowPrivate,
		MaxBytes: a.cfg.Sounds.MaxBytes, MaxLength: a.cfg.Sounds.MaxLength, CacheBytes: a.cfg.Sounds.CacheBytes,
	}, a.log)
	return err
}

// numbers lets dialogs read the book.
type numbers struct{ book *trunks.Book }

// Number returns what was configured for an account's number.
func (n numbers) Number(account, number string) (dialogs.Number, bool) {
	got, ok := n.book.Number(account, number)
	if !ok {
		return dialogs.Number{}, false
	}
	return dialogs.Number{
		Number: got.Number, CallbackURL: got.CallbackURL, AnswerTimeout: got.AnswerTimeout,
		Announcement: got.Announcement, AnnouncementAnswer: got.AnnouncementAnswer, HoldMusic: got.HoldMusic,
	}, true
}

// HoldMusic is the trunk's, or else the account's.
func (n numbers) HoldMusic(account, trunk string) string {
	if t := n.book.Trunk(trunks.Key{Account: account, Name: trunk}); t != nil && t.HoldMusic != "" {
		return t.HoldMusic
	}
	a, _ := n.book.Account(account)
	return a.HoldMusic
}
