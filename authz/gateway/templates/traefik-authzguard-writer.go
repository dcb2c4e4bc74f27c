package authzguard

import (
	"io"
	"net/http"
	"sync"
	"time"
)

const clientLeft = 499 // Traefik's status for nobody

// Headers that authz alone sets on an answer to the client.
var ours = []string{
	"Ratelimit", "Ratelimit-Policy", "X-Ratelimit-Limit-Requests", "X-Ratelimit-Remaining-Requests",
	"X-Ratelimit-Reset-Requests", "X-Ratelimit-Limit-Tokens", "X-Ratelimit-Remaining-Tokens",
	"X-Ratelimit-Reset-Tokens", "X-Request-Id", "X-Authz-Max-Tokens",
}

// writer holds nothing back. An interpreted ResponseWriter has no Flush that Traefik's proxy could call, so every part
// of a stream is flushed as it is written.
type writer struct {
	rw      http.ResponseWriter
	control *http.ResponseController
	answer  http.Header
	shared  *sync.Map
	direct  bool
	tee     *tee // nil: nobody asks what was used
	status  int  // that the client got; 0: none yet
	own     bool
	stream  bool
	failed  bool // to reach the client
}

func (w *writer) Header() http.Header { return w.rw.Header() }

func (w *writer) WriteHeader(status int) {
	if w.status != 0 {
		return
	}
	if status < 200 {
		w.rw.WriteHeader(status)
		return
	}
	w.status = status
	header := w.rw.Header()
	if !isSet(w.shared, allowedKey) {
		if !isAnswer(status, w.direct) {
			w.replace(http.StatusServiceUnavailable, unavailable)
			return
		}
	} else {
		for _, name := range ours {
			delete(header, name)
		}
		delete(header, "Www-Authenticate") // of our own credential there, which is no client's business
		for name, values := range w.answer {
			header[name] = values
		}
		if status == http.StatusUnauthorized {
			w.replace(http.StatusBadGateway, refused)
			return
		}
		if status >= clientLeft && header.Get("Content-Type") != "application/json" && w.isLate() {
			w.replace(http.StatusGatewayTimeout, timedOut) // Traefik's own page
			return
		}
		if (status == http.StatusBadGateway || status == http.StatusGatewayTimeout) && header.Get("Content-Type") == "" {
			w.replace(http.StatusBadGateway, noModel) // Traefik's own page
			return
		}
	}
	w.stream = header.Get("Content-Length") == ""
	if w.tee != nil && header.Get("Content-Encoding") == "" {
		w.tee.begin(header.Get("Content-Type"))
	}
	w.rw.WriteHeader(status)
	if w.stream && w.control.Flush() != nil { // the first part may be long in coming
		w.failed = true
	}
}

// isLate: the request's own time is over.
func (w *writer) isLate() bool {
	value, _ := w.shared.Load(deadlineKey)
	deadline, set := value.(time.Time)
	return set && !time.Now().Before(deadline)
}

func (w *writer) Write(part []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if w.own {
		return len(part), nil
	}
	n, err := w.rw.Write(part)
	if err == nil && w.stream {
		err = w.control.Flush()
	}
	if err != nil {
		w.failed = true
	}
	if w.tee != nil {
		w.tee.take(part[:n])
	}
	return n, err
}

func (w *writer) replace(status int, body string) {
	w.own = true
	w.status = status
	header := w.rw.Header()
	for _, name := range []string{"Content-Length", "Content-Encoding", "Etag", "Location", "Set-Cookie"} {
		delete(header, name)
	}
	answerJSON(w.rw, status, body)
}

// ended is the report of this response; nil where authz allowed nothing. Of an upgraded connection nothing is known but
// that it was made.
func (w *writer) ended(upgrade, whole bool, begun time.Time) report {
	reservation := reservationOf(w.shared)
	if reservation == "" {
		return nil
	}
	told := report{
		"reservation": reservation,
		"reached":     isSet(w.shared, reachedKey),
		"duration_ms": time.Since(begun).Milliseconds(),
	}
	if upgrade {
		return told
	}
	status := w.status
	if status == 0 && whole {
		status = http.StatusOK
	}
	if status == clientLeft {
		w.tee.bytes = 0 // nobody got Traefik's page
	}
	told["usage"] = nil
	if usage := w.tee.end(); usage != nil {
		told["usage"] = usage
	}
	told["status"] = status
	told["aborted"] = !whole || w.failed || status == clientLeft
	told["streamed"] = w.tee.events
	told["response_bytes"] = w.tee.bytes
	return told
}

// isAnswer: with anything else than its refusals it is not authz that answers.
func isAnswer(status int, direct bool) bool {
	switch status {
	case 400, 401, 402, 403, 413, 415, 429, 503:
		return true
	case 200:
		return direct
	}
	return false
}

func answerJSON(rw http.ResponseWriter, status int, body string) {
	rw.Header()["Content-Type"] = []string{"application/json"}
	rw.WriteHeader(status)
	_, _ = io.WriteString(rw, body)
}
