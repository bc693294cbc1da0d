// Package lab is a SIP far end that plays the telephone network: real SIP and RTP through sockets, as a carrier would.
//
// These numbers are there, as +15550100, 15550100 or 100:
//
//	…100 answers and sends back what it hears, keys included
//	…101 is busy (486)
//	…102 rings and never answers
//	…103 declines (603)
//	…104 is not found (404)
//	…105 answers and speaks
//	…106 early media (183, a ringback tone for two seconds), then answers and speaks
//	…107 answers and hangs up after three seconds
//	…108 answers and presses the keys that it is told: a digits parameter of the Request-URI, the header X-Digits, or
//	     User-to-User (plain, or encoding=hex); without any of them 1234. With a parameter method=inband, or the header
//	     X-Digits-Method: inband, they are tones in the sound
//
// Every other number is not found. Tests put their own behaviour on a number with Config.Handlers.
package lab
