package sounds

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path/filepath"

	"tandem/errs"
)

// file reads a file of the folder, unless it is as it was when old was made of it. os.Root lets nothing out: no "..",
// no absolute path, no symbolic link that leads elsewhere.
func (l *Library) file(ctx context.Context, name string, old *entry) (*entry, error) {
	if l.root == nil {
		return nil, errs.New(errs.NotFound, "there is no sound %q: sounds.folder is not configured", clip(name))
	}
	if !filepath.IsLocal(name) {
		return nil, errs.New(errs.Forbidden, "the sound %q should be a path below the folder of sounds", clip(name))
	}
	info, err := l.root.Stat(name)
	if err != nil {
		return nil, missing(name, err)
	}
	if !info.Mode().IsRegular() { // a pipe would hold us when it is opened
		return nil, errs.New(errs.Invalid, "the sound %q is no file", clip(name))
	}
	now := version{modified: info.ModTime(), size: info.Size()}
	if old != nil && old.version == now {
		return old, nil
	}
	if info.Size() > l.cfg.MaxBytes {
		return nil, errs.New(errs.Invalid, "the sound %q has %d bytes, at most %d are allowed", clip(name), info.Size(), l.cfg.MaxBytes)
	}
	free, err := l.slot(ctx)
	if err != nil {
		return nil, err
	}
	defer free()
	f, err := l.root.Open(name)
	if err != nil {
		return nil, missing(name, err)
	}
	defer func() { _ = f.Close() }()
	raw, err := io.ReadAll(io.LimitReader(f, l.cfg.MaxBytes))
	if err != nil {
		return nil, errs.Wrap(err, errs.Unavailable, "the sound %q can't be read", clip(name))
	}
	samples, err := l.decoded("the sound "+clip(name), raw)
	if err != nil {
		return nil, err
	}
	return &entry{samples: samples, version: now}, nil
}

func missing(name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return errs.New(errs.NotFound, "there is no sound %q", clip(name))
	}
	return errs.Wrap(err, errs.Forbidden, "the sound %q can't be opened below the folder of sounds", clip(name))
}

// clip bounds what is repeated of a name.
func clip(s string) string {
	const most = 100
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
