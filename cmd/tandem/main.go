// Command tandem is the gateway: serve runs it, lab plays the telephone network, bench loads it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"tandem/gateway"
)

type commands struct {
	Serve   serveCommand   `cmd:"" help:"Run the gateway."`
	Migrate migrateCommand `cmd:"" help:"Bring the database schema up to date, and do nothing else."`
	Lab     labCommand     `cmd:"" help:"Run the lab trunk alone: a SIP far end that plays the telephone network."`
	Bench   benchCommand   `cmd:"" help:"Load a gateway with bridged calls and print what they cost."`
	Hash    hashCommand    `cmd:"" name:"hash-password" help:"Read a password from standard input and print its passwordHash."`
}

// environment is what every command gets.
type environment struct {
	ctx    context.Context  //nolint:containedctx // it lives exactly as long as the one command that has it
	term   <-chan os.Signal // SIGTERM, for serve, which lets calls finish; every other command ends with ctx
	file   *gateway.File
	args   []string
	stdout io.Writer
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	term := make(chan os.Signal, 2)
	signal.Notify(term, syscall.SIGTERM)
	if err := run(ctx, term, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "tandem: "+err.Error())
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, term <-chan os.Signal, args []string) error {
	_, command, file, err := parse(args)
	if err != nil {
		return err
	}
	if command.Command() != "serve" {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
		go func() { // ends with the process, if not before
			select {
			case <-term:
				cancel()
			case <-ctx.Done():
			}
		}()
	}
	return command.Run(&environment{ctx: ctx, term: term, file: file, args: args, stdout: os.Stdout})
}

// parse reads the configuration file, the environment and the command line.
func parse(args []string) (*commands, *kong.Context, *gateway.File, error) {
	path, err := configPath(args)
	if err != nil {
		return nil, nil, nil, err
	}
	file, err := gateway.ReadFile(path)
	if err != nil {
		return nil, nil, nil, err
	}
	var all commands
	parser, err := kong.New(&all,
		kong.Name("tandem"),
		kong.Description("A self-hosted gateway between telephone trunks and browsers.\n\n"+
			"Every flag of serve can be set in the file that --config names and in the environment: "+
			"http.listen, --http-listen, TANDEM_HTTP_LISTEN. Flags beat environment, environment beats file."),
		kong.UsageOnError(),
		kong.Resolvers(file.Resolver()),
	)
	if err != nil {
		return nil, nil, nil, err
	}
	command, err := parser.Parse(args)
	if err != nil {
		return nil, nil, nil, gateway.Explain(err, args)
	}
	return &all, command, file, nil
}

// configPath finds --config before the other flags are read: the file holds their values.
func configPath(args []string) (string, error) {
	path := os.Getenv(gateway.EnvName("config"))
	for i, a := range args {
		switch {
		case a == "--":
			return path, nil
		case len(a) > len("--config=") && a[:len("--config=")] == "--config=":
			path = a[len("--config="):]
		case a == "--config":
			if i+1 == len(args) {
				return "", errors.New("--config: needs the name of a file")
			}
			path = args[i+1]
		}
	}
	return path, nil
}

// newLog makes the log that log.level and log.format ask for.
func newLog(cfg gateway.LogConfig, w io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.Level)); err != nil {
		level = slog.LevelInfo
	}
	options := &slog.HandlerOptions{Level: level}
	if cfg.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
