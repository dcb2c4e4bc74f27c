// Package authzguard stands before Traefik's forwardAuth.
//
// It takes away what no client may say, bounds the body and the time that authz has, shows authz the gateway's token,
// and gives Traefik's own error pages the shape of authz's refusals. What authz said is told by the plugin authzreply,
// which stands after forwardAuth: both share a timer and a header map in the request's context.
package authzguard

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

// Shared with authzreply. Plain strings, because every plugin has an interpreter, and so types, of its own.
const (
	timerKey  = "authz-timer"  // *time.Timer: stopped when authz has answered in time
	answerKey = "authz-answer" // http.Header: the headers for the client, and `allowed`
	allowed   = "Authz-Allowed"

	tokenHeader = "X-Authz-Gateway-Token"
	pathHeader  = "X-Authz-Path" // for the access log: the path without its query
)

const (
	invalidPath = `{"error":{"message":"The path is too long or not in canonical form. Send it decoded and without dot segments.","type":"invalid_request_error","code":"invalid_path","param":null}}`
	badRequest  = `{"error":{"message":"The request is not valid HTTP: its path, a header or its framing is malformed, or a header came twice.","type":"invalid_request_error","code":"invalid_request","param":null}}`
	handshake   = `{"error":{"message":"A WebSocket handshake has no body. Send it without Content-Length and Transfer-Encoding.","type":"invalid_request_error","code":"invalid_request","param":null}}`
	tooLarge    = `{"error":{"message":"The body is too large.","type":"invalid_request_error","code":"request_too_large","param":null}}`
	noModel     = `{"error":{"message":"The model server is unavailable. Try again shortly.","type":"server_error","code":"upstream_unavailable","param":null}}`
	unavailable = `{"error":{"message":"The authorization service is unavailable. Try again shortly.","type":"server_error","code":"authz_unavailable","param":null}}`
)

// Headers that authz alone sets on an answer to the client.
var ours = []string{
	"Ratelimit", "Ratelimit-Policy", "X-Ratelimit-Limit-Requests", "X-Ratelimit-Remaining-Requests",
	"X-Ratelimit-Reset-Requests", "X-Ratelimit-Limit-Tokens", "X-Ratelimit-Remaining-Tokens",
	"X-Ratelimit-Reset-Tokens", "X-Request-Id",
}

// Of all forwarding headers those that Traefik itself has set by now, in place of the client's.
var forwarded = map[string]bool{
	"X-Forwarded-For": true, "X-Forwarded-Host": true, "X-Forwarded-Port": true, "X-Forwarded-Proto": true,
	"X-Forwarded-Server": true,
}

var claims = map[string]bool{
	"forwarded": true, "x-real-ip": true, "x-client-cert": true, "x-client-verify": true, "x-request-id": true,
	"x-http-method": true, "x-http-method-override": true, "x-method-override": true, "http2-settings": true,
}

// Config is the plugin's configuration.
type Config struct {
	MaxBody   int64  `json:"maxBody,omitempty"`   // bytes
	TimeoutMs int64  `json:"timeoutMs,omitempty"` // for authz to answer
	TokenFile string `json:"tokenFile,omitempty"`
	TokenEnv  string `json:"tokenEnv,omitempty"`
	Direct    bool   `json:"direct,omitempty"` // authz itself is the service behind, not forwardAuth
}

// CreateConfig returns the defaults.
func CreateConfig() *Config {
	return &Config{MaxBody: 4 << 20, TimeoutMs: 2000}
}

type guard struct {
	next    http.Handler
	maxBody int64
	timeout time.Duration
	token   string
	direct  bool
}

// New builds the middleware. Without its token the gateway does not start.
func New(_ context.Context, next http.Handler, config *Config, _ string) (http.Handler, error) {
	token, err := readToken(config)
	if err != nil {
		return nil, err
	}
	timeout := time.Duration(config.TimeoutMs) * time.Millisecond
	return &guard{next: next, maxBody: config.MaxBody, timeout: timeout, token: token, direct: config.Direct}, nil
}

func readToken(config *Config) (string, error) {
	token := ""
	if config.TokenFile != "" {
		text, err := os.ReadFile(config.TokenFile)
		if err != nil {
			return "", errors.New("authzguard: the token's file " + config.TokenFile + " cannot be read")
		}
		token = strings.TrimSpace(string(text))
	} else if config.TokenEnv != "" {
		token = strings.TrimSpace(os.Getenv(config.TokenEnv))
	} else {
		return "", nil
	}
	if token == "" || strings.ContainsAny(token, " \t\r\n") {
		return "", errors.New("authzguard: the token is empty or not one word")
	}
	return token, nil
}

func (g *guard) ServeHTTP(rw http.ResponseWriter, req *http.Request) {
	if !strings.HasPrefix(req.RequestURI, "/") {
		answerJSON(rw, http.StatusBadRequest, invalidPath)
		return
	}
	path, _, _ := strings.Cut(req.RequestURI, "?")
	upgrade := isWebSocket(req)
	clean(req.Header, upgrade)
	if upgrade && (req.ContentLength != 0 || len(req.TransferEncoding) > 0) {
		// forwardAuth, which has no limit of its own, would take all of it into memory.
		rw.Header()["Connection"] = []string{"close"}
		answerJSON(rw, http.StatusBadRequest, handshake)
		return
	}
	if !upgrade && !g.readBody(rw, req) {
		return
	}
	if g.token != "" {
		req.Header[tokenHeader] = []string{g.token}
	}
	req.Header[pathHeader] = []string{path}

	// forwardAuth would wait for 30 s. Its question and the request share a context, so authzreply stops the timer.
	ctx, cancel := context.WithCancel(req.Context())
	defer cancel()
	timer := time.AfterFunc(g.timeout, cancel)
	defer timer.Stop()
	answer := http.Header{}
	ctx = context.WithValue(ctx, timerKey, timer)
	ctx = context.WithValue(ctx, answerKey, answer)
	req = req.WithContext(ctx)
	if upgrade {
		g.next.ServeHTTP(rw, req) // the connection itself is handed over: it cannot be wrapped
		return
	}
	g.next.ServeHTTP(&writer{rw: rw, control: http.NewResponseController(rw), answer: answer, direct: g.direct}, req)
}

// readBody takes the whole body before authz is asked: the time that a client needs is not authz's.
func (g *guard) readBody(rw http.ResponseWriter, req *http.Request) bool {
	if req.ContentLength > g.maxBody {
		g.refuseBody(rw, req)
		return false
	}
	if req.ContentLength == 0 || req.Body == nil {
		return true
	}
	body, err := io.ReadAll(io.LimitReader(req.Body, g.maxBody+1))
	if err != nil {
		rw.Header().Set("Connection", "close")
		answerJSON(rw, http.StatusBadRequest, badRequest)
		return false
	}
	if int64(len(body)) > g.maxBody {
		g.refuseBody(rw, req)
		return false
	}
	req.Body = io.NopCloser(bytes.NewReader(body))
	req.ContentLength = int64(len(body))
	req.TransferEncoding = nil
	req.Trailer = nil
	return true
}

// refuseBody lets a client that sends a little too much finish: most read no answer before they have.
func (g *guard) refuseBody(rw http.ResponseWriter, req *http.Request) {
	rw.Header()["Connection"] = []string{"close"}
	if req.Header.Get("Expect") == "" {
		_, _ = io.CopyN(io.Discard, req.Body, 4*g.maxBody)
	}
	answerJSON(rw, http.StatusRequestEntityTooLarge, tooLarge)
}

func isWebSocket(req *http.Request) bool {
	return req.Method == http.MethodGet && strings.EqualFold(req.Header.Get("Upgrade"), "websocket")
}

// clean removes what only a proxy may say, with `-`, `_` or `.`, and what would make Traefik drop headers: those that
// Connection names are removed hop by hop, the identity too.
func clean(header http.Header, upgrade bool) {
	for name := range header {
		plain := strings.ToLower(strings.ReplaceAll(strings.ReplaceAll(name, "_", "-"), ".", "-"))
		if claims[plain] || isOurs(plain) || strings.HasPrefix(plain, "x-forwarded") && !forwarded[name] ||
			strings.HasPrefix(plain, "x-original-") || strings.HasPrefix(plain, "x-rewrite-") ||
			strings.HasPrefix(plain, "x-envoy-") {
			delete(header, name)
		}
	}
	if upgrade {
		header["Connection"] = []string{"Upgrade"}
	} else {
		delete(header, "Connection")
		delete(header, "Upgrade")
	}
}

func isOurs(plain string) bool {
	return plain == "x-authz" || strings.HasPrefix(plain, "x-authz-")
}

// writer holds nothing back. An interpreted ResponseWriter has no Flush that Traefik's proxy could call, so every part
// of a stream is flushed as it is written.
type writer struct {
	rw      http.ResponseWriter
	control *http.ResponseController
	answer  http.Header
	direct  bool
	wrote   bool
	own     bool
	stream  bool
}

func (w *writer) Header() http.Header { return w.rw.Header() }

func (w *writer) WriteHeader(status int) {
	if w.wrote {
		return
	}
	if status < 200 {
		w.rw.WriteHeader(status)
		return
	}
	w.wrote = true
	header := w.rw.Header()
	if w.answer.Get(allowed) == "" {
		if !isAnswer(status, w.direct) {
			w.replace(http.StatusServiceUnavailable, unavailable)
			return
		}
	} else {
		for _, name := range ours {
			delete(header, name)
		}
		for name, values := range w.answer {
			if name != allowed {
				header[name] = values
			}
		}
		if (status == http.StatusBadGateway || status == http.StatusGatewayTimeout) && header.Get("Content-Type") == "" {
			w.replace(http.StatusBadGateway, noModel) // Traefik's own page
			return
		}
	}
	w.stream = header.Get("Content-Length") == ""
	w.rw.WriteHeader(status)
}

func (w *writer) Write(part []byte) (int, error) {
	if !w.wrote {
		w.WriteHeader(http.StatusOK)
	}
	if w.own {
		return len(part), nil
	}
	n, err := w.rw.Write(part)
	if err == nil && w.stream {
		err = w.control.Flush()
	}
	return n, err
}

func (w *writer) replace(status int, body string) {
	w.own = true
	header := w.rw.Header()
	for _, name := range []string{"Content-Length", "Content-Encoding", "Etag", "Location", "Set-Cookie"} {
		delete(header, name)
	}
	answerJSON(w.rw, status, body)
}

// isAnswer: with anything else than its refusals it is not authz that answers.
func isAnswer(status int, direct bool) bool {
	switch status {
	case 400, 401, 403, 413, 415, 429, 503:
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
