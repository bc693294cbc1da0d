package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"tandem/api"
	"tandem/gateway"
	"tandem/lab"
	"tandem/load"
)

type labCommand struct {
	Listen   []string          `default:"udp://127.0.0.1:5090,tcp://127.0.0.1:5090" placeholder:"URL" help:"Where the lab's SIP is served."`
	Username string            `help:"Challenge every call (407) and take this user's answer."`
	Password gateway.Secret    `help:"The password of --username."`
	Log      gateway.LogConfig `embed:"" prefix:"log-"`
}

// Run plays the telephone network until it is told to stop.
func (c *labCommand) Run(env *environment) error {
	trunk, err := lab.Listen(lab.Config{
		Listen: c.Listen, Username: c.Username, Password: string(c.Password),
	}, newLog(c.Log, os.Stderr))
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintln(env.stdout, "The lab answers +15550100 … +15550108 at", strings.Join(trunk.Addrs(), " "))
	return trunk.Run(env.ctx)
}

type hashCommand struct{}

// Run prints the hash of one line of standard input.
func (c *hashCommand) Run(env *environment) error {
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	password := strings.TrimRight(line, "\r\n")
	if password == "" {
		return errors.New("hash-password: standard input should hold the password")
	}
	hash, err := api.HashPassword(password)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(env.stdout, hash)
	return err
}

type benchCommand struct {
	Media       mediaCommand       `cmd:"" default:"withargs" help:"Hold bridged calls and print what they cost (default)."`
	Calls       callsCommand       `cmd:"" help:"Set calls up and end them, as many per second as go well."`
	Rival       rivalCommand       `cmd:"" help:"Hold the same calls over this gateway, rtpengine and the least code that would do, and compare."`
	Speech      speechCommand      `cmd:"" help:"Let phones and browsers speak over this gateway and over rtpengine, with loss, and compare what is understood."`
	Capacity    capacityCommand    `cmd:"" help:"Hold ever more calls on one core, over this gateway and over rtpengine, until packets are lost."`
	Delay       delayCommand       `cmd:"" help:"Let tones begin, over this gateway and over rtpengine, and print how late they are heard."`
	Passthrough passthroughCommand `cmd:"" help:"Hold calls that need no codec over this gateway and over Janus, and compare."`
	Party       partyCommand       `cmd:"" help:"Hold a session of 20 in which 3 speak over this gateway, over the least code that would do and over Janus, and compare."`
	PartyFloor  partyFloorCommand  `cmd:"" hidden:"" help:"Carry such a session with the least code that does, for bench party."`
	Band        bandCommand        `cmd:"" help:"Hold calls whose browsers send the full band, and such that the gateway holds to narrowband, and compare."`
	Idle        idleCommand        `cmd:"" help:"Make sessions in which nothing happens, and print what they cost."`
	Floor       floorCommand       `cmd:"" hidden:"" help:"Carry calls with the least code that does, for bench rival."`
	Bare        bareCommand        `cmd:"" hidden:"" help:"Answer calls with the SIP library alone, for bench calls."`
}

type callsCommand struct {
	Step    time.Duration `default:"4s" help:"How long each rate is tried."`
	Rounds  int           `default:"3" help:"How often the highest rate is searched for; the median ratio counts."`
	JSON    bool          `name:"json" help:"Print the result as JSON."`
	Verbose bool          `help:"Log each rate that is tried."`
}

// Run measures set-up and end of calls beside the SIP library alone.
func (c *callsCommand) Run(env *environment) error {
	cfg := load.SignalConfig{Step: c.Step, Rounds: c.Rounds, JSON: c.JSON}
	if c.Verbose {
		cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	_, err := load.RunSignalling(env.ctx, cfg, env.stdout)
	return err
}

type bareCommand struct {
	SIP  string `name:"sip" required:"" help:"UDP address."`
	HTTP string `name:"http" required:"" help:"Address of /readyz."`
}

// Run is the far end that the gateway is measured against.
func (c *bareCommand) Run(env *environment) error { return load.ServeBare(env.ctx, c.SIP, c.HTTP) }

type rivalCommand struct {
	Calls    int           `default:"20" help:"How many calls each holds."`
	Half     int           `default:"45" help:"How many calls this gateway holds once more: half of what fills a core."`
	Duration time.Duration `default:"8s" help:"How long each holds them."`
	Rounds   int           `default:"3" help:"How often each is measured at its default settings."`
}

// Run compares what calls cost.
func (c *rivalCommand) Run(env *environment) error {
	return load.RunRivals(env.ctx, load.RivalConfig{Calls: c.Calls, Half: c.Half, Duration: c.Duration, Rounds: c.Rounds}, env.stdout)
}

type capacityCommand struct {
	Duration time.Duration `default:"8s" help:"How long each number of calls is held."`
}

// Run finds how many calls one core holds.
func (c *capacityCommand) Run(env *environment) error {
	return load.RunCapacity(env.ctx, load.CapacityConfig{Duration: c.Duration}, env.stdout)
}

type delayCommand struct {
	Calls    int           `default:"10" help:"How many calls each holds."`
	Duration time.Duration `default:"10s" help:"How long each holds them."`
}

// Run measures how late sound is heard.
func (c *delayCommand) Run(env *environment) error {
	return load.RunDelay(env.ctx, load.DelayConfig{Calls: c.Calls, Duration: c.Duration}, env.stdout)
}

type passthroughCommand struct {
	Calls    []int         `default:"20,100" help:"How many calls each holds, one number after the other."`
	Duration time.Duration `default:"6s" help:"How long each holds them."`
	Rounds   int           `default:"3" help:"How often each is measured."`
}

// Run compares what calls without codecs cost.
func (c *passthroughCommand) Run(env *environment) error {
	return load.RunPassthrough(env.ctx, load.PassthroughConfig{Calls: c.Calls, Duration: c.Duration, Rounds: c.Rounds}, env.stdout)
}

type partyCommand struct {
	Duration time.Duration `default:"8s" help:"How long each holds the session."`
	Rounds   int           `default:"3" help:"How often each is measured."`
}

// Run compares what a session costs in which few speak.
func (c *partyCommand) Run(env *environment) error {
	return load.RunParty(env.ctx, load.PartyConfig{Duration: c.Duration, Rounds: c.Rounds}, env.stdout)
}

type partyFloorCommand struct {
	HTTP      string `name:"http" required:"" help:"Address of /readyz and /offer."`
	FirstPort int    `required:"" help:"Of the phones."`
}

// Run carries a session until it is told to stop.
func (c *partyFloorCommand) Run(env *environment) error {
	return load.ServePartyFloor(env.ctx, load.PartyFloorConfig{HTTP: c.HTTP, FirstPort: c.FirstPort})
}

type bandCommand struct {
	Calls    []int         `default:"20,100" help:"How many calls are held, one number after the other."`
	Duration time.Duration `default:"6s" help:"How long they are held."`
	Rounds   int           `default:"9" help:"How often each is measured."`
}

// Run measures what is saved where browsers are told that 8 kHz are enough.
func (c *bandCommand) Run(env *environment) error {
	return load.RunBand(env.ctx, load.BandConfig{Calls: c.Calls, Duration: c.Duration, Rounds: c.Rounds}, env.stdout)
}

type idleCommand struct{}

// Run measures what idle sessions cost.
func (c *idleCommand) Run(env *environment) error { return load.RunIdle(env.ctx, nil, env.stdout) }

type speechCommand struct {
	Voice string `placeholder:"FILE" help:"Speech, G.722 without a header; a file of Debian's asterisk-core-sounds-en-g722 if not given."`
	Keep  string `default:"bin/speech" placeholder:"DIR" help:"Where what was said and heard is kept, as WAV."`
}

// Run compares how calls sound.
func (c *speechCommand) Run(env *environment) error {
	return load.RunSpeech(env.ctx, load.SpeechConfig{Voice: c.Voice, Keep: c.Keep}, env.stdout)
}

type floorCommand struct {
	HTTP       string `name:"http" required:"" help:"Address of /readyz."`
	FirstPort  int    `required:"" help:"Of the phones and the others in turn."`
	Calls      int    `required:"" help:"How many."`
	Complexity int    `default:"5" help:"Of Opus."`
	WebRTC     bool   `name:"webrtc" help:"The other ends are connections of Pion."`
}

// Run carries calls until it is told to stop.
func (c *floorCommand) Run(env *environment) error {
	return load.ServeFloor(env.ctx, load.FloorConfig{
		HTTP: c.HTTP, FirstPort: c.FirstPort, Calls: c.Calls, Complexity: c.Complexity, WebRTC: c.WebRTC,
	})
}

type mediaCommand struct {
	Calls    int           `default:"50" help:"How many bridged calls are held at once."`
	Duration time.Duration `default:"60s" help:"How long they are held."`
	Drop     float64       `default:"0" placeholder:"PERCENT" help:"Packets that are dropped on purpose in each direction: what is then reported as lost must be this."`
	Ramp     float64       `default:"10" placeholder:"N" help:"Calls that are set up in a second."`
	JSON     bool          `name:"json" help:"Print the result as JSON."`
}

// Run loads a gateway of its own and prints what it cost.
func (c *mediaCommand) Run(env *environment) error {
	_, err := load.Run(env.ctx, load.Config{
		Calls: c.Calls, Duration: c.Duration, DropPercent: c.Drop, RampPerSecond: c.Ramp, JSON: c.JSON,
	}, env.stdout)
	return err
}
