// Package authzreply stands after Traefik's forwardAuth, which has put authz's answer onto the request.
//
// It takes off what is not for the model server: headers for the client go onto the response, a rewritten query or
// cookie and a change of the body into their place, credentials away. Without an answer of authz it lets nothing
// through.
//
// Traefik chooses a service before any middleware runs. Where authz chooses among several model servers, this plugin
// sends the request there itself, through the proxy of Go's library.
package authzreply

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Shared with authzguard, see there.
const (
	timerKey  = "authz-timer"
	answerKey = "authz-answer"
	sharedKey = "authz-shared"

	reservationKey = "reservation"
	allowedKey     = "allowed"
	reachedKey     = "reached"
	leftKey        = "left"
	deadlineKey    = "deadline"

	pathHeader        = "X-Authz-Path"
	backendHeader     = "X-Authz-Backend"
	reservationHeader = "X-Authz-Reservation"
	editHeader        = "X-Authz-Edit"
	timeoutHeader     = "X-Authz-Timeout-Ms"
	clientPrefix      = "X-Authz-Client-"

	clientLeft = 499 // as Traefik's own proxy has it
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
	// Model servers by the name that authz gives them. None: the router's service.
	Backends map[string]string `json:"backends,omitempty"`
}

// CreateConfig returns the defaults.
func CreateConfig() *Config { return &Config{} }

type reply struct {
	next     http.Handler
	answered map[string]bool // names in lower case
	backends map[string]http.Handler
}

// New builds the middleware.
func New(_ context.Context, next http.Handler, config *Config, _ string) (http.Handler, error) {
	answered := map[string]bool{}
	for _, name := range config.Answered {
		answered[strings.ToLower(name)] = true
	}
	backends := map[string]http.Handler{}
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, address)
		},
		MaxIdleConnsPerHost: 200,
		IdleConnTimeout:     4 * time.Second, // shorter than a model server keeps a connection (uvicorn: 5 s)
		DisableCompression:  true,
		ForceAttemptHTTP2:   true,
	}
	for name, address := range config.Backends {
		target, err := url.Parse(address)
		if err != nil || target.Host == "" {
			return nil, errors.New("authzreply: the URL of backend " + name + " is none")
		}
		backends[name] = proxyTo(target, transport)
	}
	return &reply{next: next, answered: answered, backends: backends}, nil
}

func proxyTo(target *url.URL, transport http.RoundTripper) http.Handler {
	return &httputil.ReverseProxy{
		Director: func(out *http.Request) {
			out.URL.Scheme = target.Scheme
			out.URL.Host = target.Host
			if target.Scheme == "https" {
				out.Host = target.Host
			}
			if _, ok := out.Header["User-Agent"]; !ok {
				out.Header["User-Agent"] = nil // none, instead of Go's
			}
		},
		Transport:     transport,
		FlushInterval: -1,
		ErrorHandler: func(rw http.ResponseWriter, _ *http.Request, err error) {
			status := http.StatusBadGateway // authzguard gives it its body
			if errors.Is(err, context.Canceled) {
				status = clientLeft
			}
			rw.WriteHeader(status)
		},
	}
}

func (r *reply) ServeHTTP(rw http.ResponseWriter, req *http.Request) {
	timer, hasTimer := req.Context().Value(timerKey).(*time.Timer)
	answer, hasAnswer := req.Context().Value(answerKey).(http.Header)
	shared, hasShared := req.Context().Value(sharedKey).(*sync.Map)
	if !hasTimer || !hasAnswer || !hasShared || !isAllowance(req.Header) {
		refuse(rw, req)
		return
	}
	shared.Store(reservationKey, req.Header.Get(reservationHeader)) // to be given back if it goes no further
	if !timer.Stop() {
		refuse(rw, req)
		return
	}
	out := req.Clone(traced(req.Context(), shared)) // the access log goes on reading the headers of `req`
	if changes := req.Header[editHeader]; changes != nil {
		if edit(out, changes) != nil {
			refuse(rw, req)
			return
		}
	}
	shared.Store(allowedKey, true)
	if _, left := shared.Load(leftKey); left {
		refuse(rw, req)
		return
	}
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
			rw.Header()[name] = values
		}
	}
	if wished := req.Header.Get(timeoutHeader); wished != "" && req.Header.Get("Upgrade") == "" {
		milliseconds, err := strconv.ParseInt(wished, 10, 32)
		if err != nil || milliseconds < 1 {
			refuse(rw, req)
			return
		}
		deadline := time.Now().Add(time.Duration(milliseconds) * time.Millisecond)
		shared.Store(deadlineKey, deadline) // authzguard tells an answer that is late from one that is none
		ctx, cancel := context.WithDeadline(out.Context(), deadline)
		defer cancel()
		out = out.WithContext(ctx)
	}
	r.choose(req.Header.Get(backendHeader)).ServeHTTP(rw, out)
}

// traced notes when there is a connection to the model server: nothing else tells a request that it may have got from
// one that never left.
func traced(ctx context.Context, shared *sync.Map) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(_ httptrace.GotConnInfo) { shared.Store(reachedKey, true) },
	})
}

func (r *reply) choose(backend string) http.Handler {
	if len(r.backends) == 0 {
		return r.next
	}
	if chosen, ok := r.backends[backend]; ok {
		return chosen
	}
	return http.HandlerFunc(refuse)
}

func refuse(rw http.ResponseWriter, _ *http.Request) {
	rw.Header()["Content-Type"] = []string{"application/json"}
	rw.WriteHeader(http.StatusServiceUnavailable)
	_, _ = io.WriteString(rw, unavailable)
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
