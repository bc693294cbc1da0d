package sfu

// The messages of the device protocol; the field names are the published client's.

type offerParams struct {
	SDPOffer      string        `json:"sdpOffer"`
	MediaMetadata mediaMetadata `json:"mediaMetadata"`
}

type mediaMetadata struct {
	MediaStreams map[string]publishMetadata `json:"mediaStreams"` // by msid
}

type publishMetadata struct {
	Alias string `json:"alias"`
}

type offerResult struct {
	SDPAnswer      string                    `json:"sdpAnswer"`
	EndpointID     string                    `json:"endpointId"`
	StreamMetadata map[string]streamMetadata `json:"streamMetadata"`
}

type answerParams struct {
	SDPAnswer string `json:"sdpAnswer"`
}

type offerNotification struct {
	SDPOffer       string                    `json:"sdpOffer"`
	SDPRevision    int                       `json:"sdpRevision"`
	EndpointID     string                    `json:"endpointId"`
	StreamMetadata map[string]streamMetadata `json:"streamMetadata"` // never null
}

// streamMetadata says what a stream is; the map around it is keyed by msid.
type streamMetadata struct {
	EndpointID    string   `json:"endpointId"`
	MediaTypes    []string `json:"mediaTypes"`
	Alias         string   `json:"alias,omitempty"`
	ParticipantID string   `json:"participantId"`
}

type dtmfNotification struct {
	ParticipantID string `json:"participantId"`
	Digit         string `json:"digit"`
	Duration      int64  `json:"duration"` // ms
}

type muteNotification struct {
	ParticipantID string `json:"participantId"`
	EndpointID    string `json:"endpointId,omitempty"` // the stream's in streamMetadata; absent: the device knows none
	Muted         bool   `json:"muted"`
	Subscriber    string `json:"subscriber,omitempty"` // who alone does not hear it; absent: everybody
}

type dialogNotification struct {
	DialogID      string `json:"dialogId"`
	ParticipantID string `json:"participantId"`
	State         string `json:"state"`
	To            string `json:"to"`
	From          string `json:"from"`
	Reason        string `json:"reason,omitempty"`
	Details       string `json:"details,omitempty"`
}
