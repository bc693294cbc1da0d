package sfu

import (
	"fmt"
	"sync"

	"github.com/pion/interceptor"
	"github.com/pion/interceptor/pkg/nack"
	"github.com/pion/webrtc/v4"
)

// missing makes one interceptor for each connection on which a browser sends.
type missing struct{ factory interceptor.Factory }

func newMissing() (missing, error) {
	factory, err := nack.NewGeneratorInterceptor()
	if err != nil {
		return missing{}, fmt.Errorf("NACK: %w", err)
	}
	return missing{factory}, nil
}

// NewInterceptor implements interceptor.Factory.
func (m missing) NewInterceptor(id string) (interceptor.Interceptor, error) {
	i, err := m.factory.NewInterceptor(id)
	if err != nil {
		return nil, fmt.Errorf("NACK: %w", err)
	}
	return &asking{Interceptor: i}, nil
}

// asking asks a browser for what is missing of its videos (NACK, RFC 4585 §6.2.1). Pion's, which it contains, looks for that ten times a second; this one lets
// it do so from the first video on, since a gateway that carries sound alone would wake up for nothing.
type asking struct {
	interceptor.Interceptor

	mu     sync.Mutex // guards writer
	writer interceptor.RTCPWriter
}

// BindRTCPWriter implements interceptor.Interceptor.
func (a *asking) BindRTCPWriter(writer interceptor.RTCPWriter) interceptor.RTCPWriter {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.writer = writer
	return writer
}

// BindRemoteStream implements interceptor.Interceptor.
func (a *asking) BindRemoteStream(stream *interceptor.StreamInfo, reader interceptor.RTPReader) interceptor.RTPReader {
	if !asks(stream) {
		return reader
	}
	a.mu.Lock()
	if a.writer != nil {
		a.Interceptor.BindRTCPWriter(a.writer) // it begins to look
		a.writer = nil
	}
	a.mu.Unlock()
	return a.Interceptor.BindRemoteStream(stream, reader)
}

// asks says whether it was agreed that we ask for packets of a stream.
func asks(stream *interceptor.StreamInfo) bool {
	for _, f := range stream.RTCPFeedback {
		if f.Type == webrtc.TypeRTCPFBNACK && f.Parameter == "" {
			return true
		}
	}
	return false
}
