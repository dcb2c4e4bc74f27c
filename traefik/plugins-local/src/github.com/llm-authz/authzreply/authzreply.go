// Package authzreply stands after Traefik's forwardAuth, which has put authz's answer onto the request.
//
// It takes off what is not for the model server: headers for the client go onto the response, a rewritten query or
// cookie into its place, credentials away. Without an answer of authz it lets nothing through.
package authzreply

import (
	"context"
	"io"
	"net/http"
	"strings"
	"time"
)

// Shared with authzguard, see there.
const (
	timerKey  = "authz-timer"
	answerKey = "authz-answer"
	allowed   = "Authz-Allowed"

	pathHeader   = "X-Authz-Path"
	clientPrefix = "X-Authz-Client-"
)

const unavailable = `{"error":{"message":"The authorization service is unavailable. Try again shortly.","type":"server_error","code":"authz_unavailable","param":null}}`

// What of authz's answer is for the model server.
var identity = map[string]bool{
	"X-Authz-User": true, "X-Authz-Team": true, "X-Authz-Key": true, "X-Authz-Model": true,
	"X-Authz-Reservation": true, "X-Authz-Request-Id": true,
}

// Config is the plugin's configuration.
type Config struct {
	// The authResponseHeaders of forwardAuth: what a client sent under these names is gone already.
	Answered []string `json:"answered,omitempty"`
}

// CreateConfig returns the defaults.
func CreateConfig() *Config { return &Config{} }

type reply struct {
	next     http.Handler
	answered map[string]bool // names in lower case
}

// New builds the middleware.
func New(_ context.Context, next http.Handler, config *Config, _ string) (http.Handler, error) {
	answered := map[string]bool{}
	for _, name := range config.Answered {
		answered[strings.ToLower(name)] = true
	}
	return &reply{next: next, answered: answered}, nil
}

func (r *reply) ServeHTTP(rw http.ResponseWriter, req *http.Request) {
	timer, hasTimer := req.Context().Value(timerKey).(*time.Timer)
	answer, hasAnswer := req.Context().Value(answerKey).(http.Header)
	if !hasTimer || !hasAnswer || !isAllowance(req.Header) || !timer.Stop() {
		rw.Header()["Content-Type"] = []string{"application/json"}
		rw.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(rw, unavailable)
		return
	}
	answer[allowed] = []string{"1"}

	out := req.Clone(req.Context()) // the access log goes on reading the headers of `req`
	path, _, _ := strings.Cut(req.RequestURI, "?")
	req.Header[pathHeader] = []string{path}

	if removed := req.Header.Get("X-Authz-Remove"); removed != "" {
		for _, name := range strings.Split(removed, ",") {
			r.remove(out.Header, strings.ToLower(strings.TrimSpace(name)))
		}
	}
	if cookie := req.Header.Get("X-Authz-Cookie"); cookie != "" {
		out.Header["Cookie"] = []string{cookie}
	}
	if target := req.Header.Get("X-Authz-Uri"); target != "" {
		_, query, _ := strings.Cut(target, "?")
		out.URL.RawQuery = query
		out.URL.ForceQuery = false
		out.RequestURI = target
	}
	for name, values := range req.Header {
		if !strings.HasPrefix(name, "X-Authz-") {
			continue
		}
		if strings.HasPrefix(name, clientPrefix) {
			answer[http.CanonicalHeaderKey(name[len(clientPrefix):])] = values
		}
		if !identity[name] || req.Header.Get(name) == "" {
			delete(out.Header, name)
		}
	}
	if id := answer["X-Request-Id"]; id != nil {
		out.Header["X-Request-Id"] = id
	}
	if req.Header.Get("Upgrade") != "" {
		for name, values := range answer { // authzguard does not see the response to an upgrade
			if name != allowed {
				rw.Header()[name] = values
			}
		}
	}
	r.next.ServeHTTP(rw, out)
}

// isAllowance: forwardAuth takes what authzguard has set, the path among it, for authz's answer. If that is still there
// authz was not asked; if nothing is there it was not authz that answered.
func isAllowance(header http.Header) bool {
	if header.Get(pathHeader) != "" {
		return false
	}
	for name := range header {
		if strings.HasPrefix(name, "X-Authz-") {
			return true
		}
	}
	return false
}

// remove knows a name in any case, also one that Go does not write in its canonical form.
func (r *reply) remove(header http.Header, name string) {
	if r.answered[name] {
		return
	}
	for each := range header {
		if strings.EqualFold(each, name) {
			delete(header, each)
		}
	}
}
