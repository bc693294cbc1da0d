package sip

import (
	"net/http"
	"strconv"

	"tandem/dialogs"
	"tandem/errs"
)

// reasonPhrase returns the words of RFC 3261 §21 (and the RFCs after it) for a status; "Error" where there are none.
func reasonPhrase(status int) string {
	switch status {
	case 100:
		return "Trying"
	case 180:
		return "Ringing"
	case 181:
		return "Call Is Being Forwarded"
	case 182:
		return "Queued"
	case 183:
		return "Session Progress"
	case 199:
		return "Early Dialog Terminated"
	case 300:
		return "Multiple Choices"
	case 301:
		return "Moved Permanently"
	case 302:
		return "Moved Temporarily"
	case 305:
		return "Use Proxy"
	case 380:
		return "Alternative Service"
	case 422:
		return "Session Interval Too Small"
	case 480:
		return "Temporarily Unavailable"
	case 481:
		return "Call/Transaction Does Not Exist"
	case 482:
		return "Loop Detected"
	case 483:
		return "Too Many Hops"
	case 484:
		return "Address Incomplete"
	case 485:
		return "Ambiguous"
	case 486:
		return "Busy Here"
	case 487:
		return "Request Terminated"
	case 488:
		return "Not Acceptable Here"
	case 491:
		return "Request Pending"
	case 415:
		return "Unsupported Media Type"
	case 416:
		return "Unsupported URI Scheme"
	case 420:
		return "Bad Extension"
	case 500:
		return "Server Internal Error"
	case 600:
		return "Busy Everywhere"
	case 603:
		return "Decline"
	case 604:
		return "Does Not Exist Anywhere"
	case 606:
		return "Not Acceptable"
	}
	if words := http.StatusText(status); words != "" && status < 600 {
		return words
	}
	return "Error"
}

// causeOf maps the final answer of the far end to what the application is told.
func causeOf(status int, phrase string) dialogs.Cause {
	if phrase = printable(phrase, 80); phrase == "" {
		phrase = reasonPhrase(status)
	}
	return dialogs.Cause{Reason: reasonOf(status), Details: strconv.Itoa(status) + " " + phrase, SIPCode: status}
}

func reasonOf(status int) dialogs.Reason {
	switch status {
	case 486, 600:
		return dialogs.FarEndBusy
	case 403, 603:
		return dialogs.FarEndDeclined
	case 404, 410, 484, 604:
		return dialogs.FarEndNotFound
	}
	return dialogs.Error
}

// statusOfReason is the way back: the refusal that says reason to a caller.
func statusOfReason(reason dialogs.Reason) int {
	switch reason {
	case dialogs.FarEndBusy:
		return 486
	case dialogs.FarEndNotFound:
		return 404
	case dialogs.Error:
		return 500
	case dialogs.FarEndDeclined, dialogs.NoReason, dialogs.Answer, dialogs.RingingReason:
		return 603
	}
	return 603
}

// statusOf maps why a call is not taken to the status of its refusal.
func statusOf(err error) int {
	switch errs.CodeOf(err) {
	case errs.Invalid:
		return 400
	case errs.Unauthenticated:
		return 401
	case errs.Forbidden:
		return 403
	case errs.NotFound:
		return 404
	case errs.Conflict:
		return 486 // the participant has a call already
	case errs.TooMany, errs.Unavailable:
		return 503
	case errs.Internal:
		return 500
	}
	return 500
}

// refusal returns the status that Hangup asked for when it is a final refusal, 603 otherwise.
func refusal(status int) int {
	if status < 300 || status > 699 {
		return statusOfReason(dialogs.FarEndDeclined)
	}
	return status
}
