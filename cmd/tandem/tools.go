package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"tandem/api"
	"tandem/gateway"
	"tandem/lab"
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
