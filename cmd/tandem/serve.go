package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"tandem/gateway"
	"tandem/lab"
	"tandem/store"
)

// configFlag names the configuration file; main has read it before the flags are parsed.
type configFlag struct {
	File string `name:"config" placeholder:"FILE" help:"The configuration file."`
}

type serveCommand struct {
	configFlag `embed:""`
	Demo       bool           `help:"Add a demo account, the lab trunk and the demo page: for trying out, never for the open net."`
	DemoLab    string         `default:"127.0.0.1:5090" placeholder:"HOST:PORT" help:"Where the demo's lab serves SIP."`
	Settings   gateway.Config `embed:""`
}

// Run serves until it is told to stop.
func (c *serveCommand) Run(env *environment) error {
	cfg, err := c.configuration(env.file)
	if err != nil {
		return err
	}
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	log := newLog(cfg.Log, os.Stderr)
	ctx, cancel := context.WithCancel(env.ctx)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	app, err := gateway.New(ctx, cfg, log)
	if err != nil {
		return err
	}
	if c.Demo {
		trunk, err := lab.Listen(lab.Config{Listen: []string{"udp://" + c.DemoLab, "tcp://" + c.DemoLab}}, log.With("part", "lab"))
		if err != nil {
			return fmt.Errorf("--demo-lab: %w", errors.Join(err, app.Close()))
		}
		group.Go(func() error { return trunk.Run(ctx) })
		printDemo(env.stdout, app)
	}
	group.Go(func() error {
		defer cancel() // a drain is over
		return app.Run(ctx)
	})
	group.Go(func() error { return holdSpareProcessor(ctx, app.Busy) })
	group.Go(func() error { reloadOn(ctx, hangups, env.args, app, log); return nil })
	group.Go(func() error { drainOn(ctx, env.term, app, cfg.Drain.Deadline); return nil })
	return group.Wait()
}

// drainOn drains the gateway at the first SIGTERM and cuts what is left at the second. An interrupt stops it at once.
func drainOn(ctx context.Context, term <-chan os.Signal, app *gateway.App, deadline time.Duration) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-term:
			app.Drain(deadline)
			deadline = 0
		}
	}
}

// configuration is what flags, environment and file say together, checked.
func (c *serveCommand) configuration(file *gateway.File) (gateway.Config, error) {
	cfg := c.Settings
	if c.Demo {
		addDemo(&cfg, c.DemoLab)
	}
	return cfg, file.Complete(&cfg)
}

// reloadOn reads the configuration again at each SIGHUP until ctx ends. One that is wrong is refused whole, with its one
// line in the log, and the old one goes on.
func reloadOn(ctx context.Context, hangups <-chan os.Signal, args []string, app *gateway.App, log *slog.Logger) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
		}
		all, _, file, err := parse(args)
		if err == nil {
			var cfg gateway.Config
			if cfg, err = all.Serve.configuration(file); err == nil {
				err = app.Reload(ctx, cfg)
			}
		}
		if err != nil {
			log.Error("the configuration was not read again; the old one goes on", "error", err)
		}
	}
}

type migrateCommand struct {
	configFlag `embed:""`
	Database   gateway.DatabaseConfig `embed:"" prefix:"database-"`
	Log        gateway.LogConfig      `embed:"" prefix:"log-"`
}

// Run brings the schema up to date.
func (c *migrateCommand) Run(env *environment) error {
	if err := store.Migrate(env.ctx, string(c.Database.URL), newLog(c.Log, os.Stderr)); err != nil {
		return fmt.Errorf("database.url: %w", err)
	}
	return nil
}
