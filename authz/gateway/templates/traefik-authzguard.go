// Package authzguard stands before Traefik's forwardAuth.
//
// It takes away what no client may say, bounds the body and the time that authz has, shows authz the gateway's token,
// gives Traefik's own error pages the shape of authz's refusals, and tells authz what became of each request that it
// allowed. What authz said is told by the plugin authzreply, which stands after forwardAuth: both share a timer and two
// maps in the request's context.
package authzguard

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Shared with authzreply. Plain strings, because every plugin has an interpreter, and so types, of its own.
const (
	timerKey  = "authz-timer"  // *time.Timer: stopped when authz has answered in time
	answerKey = "authz-answer" // http.Header: the headers for the client
	sharedKey = "authz-shared" // *sync.Map: what follows

	reservationKey = "reservation" // string: authz's name for what it holds
	allowedKey     = "allowed"     // true: the request goes on to the model server
	reachedKey     = "reached"     // true: there was a connection to the model server
	leftKey        = "left"        // true: the client is gone
	deadlineKey    = "deadline"    // time.Time: when the request is to be over, if authz said so

	tokenHeader = "X-Authz-Gateway-Token"
	canHeader   = "X-Authz-Gateway-Can"
	pathHeader  = "X-Authz-Path" // for the access log: the path without its query
)

const (
	invalidPath = `{"error":{"message":"The path is too long or not in canonical form. Send it decoded and without dot segments.","type":"invalid_request_error","code":"invalid_path","param":null}}`
	badRequest  = `{"error":{"message":"The request is not valid HTTP: its path, a header or its framing is malformed, or a header came twice.","type":"invalid_request_error","code":"invalid_request","param":null}}`
	handshake   = `{"error":{"message":"A WebSocket handshake has no body. Send it without Content-Length and Transfer-Encoding.","type":"invalid_request_error","code":"invalid_request","param":null}}`
	tooLarge    = `{"error":{"message":"The body is too large.","type":"invalid_request_error","code":"request_too_large","param":null}}`
	noModel     = `{"error":{"message":"The model server is unavailable. Try again shortly.","type":"server_error","code":"upstream_unavailable","param":null}}`
	timedOut    = `{"error":{"message":"The model server did not answer within the time that the request allows.","type":"server_error","code":"upstream_timeout","param":null}}`
	refused     = `{"error":{"message":"The model server refused the gateway: its own credential there is wrong. Tell the operator.","type":"server_error","code":"upstream_auth_failed","param":null}}`
	unavailable = `{"error":{"message":"The authorization service is unavailable. Try again shortly.","type":"server_error","code":"authz_unavailable","param":null}}`
)

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
	UsageURL  string `json:"usageUrl,omitempty"` // where authz takes reports of what was used; needs a proof
	LeaseMs   int64  `json:"leaseMs,omitempty"`  // authz is told three times as often that a response still runs
	Direct    bool   `json:"direct,omitempty"`   // authz itself is the service behind, not forwardAuth

	// Traefik keeps what some proxies say (forwardedHeaders.trustedIPs). Of that only X-Forwarded-For is for authz to judge.
	TrustedHops bool `json:"trustedHops,omitempty"`

	// For https at UsageURL, in PEM. A certificate of its own proves the gateway in the place of a token.
	ServerName string `json:"serverName,omitempty"` // in authz's certificate
	CaFile     string `json:"caFile,omitempty"`     // the authority that signed that; else one of the system's
	CertFile   string `json:"certFile,omitempty"`
	KeyFile    string `json:"keyFile,omitempty"`
}

// CreateConfig returns the defaults.
func CreateConfig() *Config {
	return &Config{MaxBody: 4 << 20, TimeoutMs: 2000, LeaseMs: 60000}
}

type guard struct {
	next    http.Handler
	maxBody int64
	timeout time.Duration
	token   string
	can     string
	direct  bool
	proven  bool
	hops    bool
	reports *reports // nil: none are made
}

// New builds the middleware. Without its token the gateway does not start.
func New(_ context.Context, next http.Handler, config *Config, _ string) (http.Handler, error) {
	token, err := readToken(config)
	if err != nil {
		return nil, err
	}
	g := &guard{
		next:    next,
		maxBody: config.MaxBody,
		timeout: time.Duration(config.TimeoutMs) * time.Millisecond,
		token:   token,
		can:     "edit",
		direct:  config.Direct,
		hops:    config.TrustedHops,
	}
	g.proven = token != "" || config.CertFile != ""
	if g.proven && config.UsageURL != "" && !config.Direct {
		if config.LeaseMs < 3 {
			return nil, errors.New("authzguard: leaseMs is too short")
		}
		g.can = "edit, lease=" + strconv.FormatInt(config.LeaseMs, 10)
		connection, err := readTLS(config)
		if err != nil {
			return nil, err
		}
		g.reports = newReports(config.UsageURL, token, connection, time.Duration(config.LeaseMs)*time.Millisecond)
	}
	return g, nil
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

// readTLS gives nil where nothing is set: Go's own ways.
func readTLS(config *Config) (*tls.Config, error) {
	if config.ServerName == "" && config.CaFile == "" && config.CertFile == "" {
		return nil, nil
	}
	connection := &tls.Config{ServerName: config.ServerName, MinVersion: tls.VersionTLS12}
	if config.CaFile != "" {
		text, err := os.ReadFile(config.CaFile)
		if err != nil {
			return nil, errors.New("authzguard: " + config.CaFile + " cannot be read")
		}
		connection.RootCAs = x509.NewCertPool()
		if !connection.RootCAs.AppendCertsFromPEM(text) {
			return nil, errors.New("authzguard: " + config.CaFile + " holds no certificate")
		}
	}
	if config.CertFile != "" {
		own, err := tls.LoadX509KeyPair(config.CertFile, config.KeyFile)
		if err != nil {
			return nil, errors.New("authzguard: " + config.CertFile + " and its key cannot be used")
		}
		connection.Certificates = []tls.Certificate{own}
	}
	return connection, nil
}

func (g *guard) ServeHTTP(rw http.ResponseWriter, req *http.Request) {
	begun := time.Now()
	if !strings.HasPrefix(req.RequestURI, "/") {
		answerJSON(rw, http.StatusBadRequest, invalidPath)
		return
	}
	path, _, _ := strings.Cut(req.RequestURI, "?")
	upgrade := isWebSocket(req)
	clean(req.Header, upgrade)
	if g.hops {
		seen(req)
	}
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
	if g.proven {
		req.Header[canHeader] = []string{g.can}
	}
	req.Header[pathHeader] = []string{path}

	// forwardAuth would wait for 30 s. Its question and the request share a context, so authzreply stops the timer. A
	// client that leaves ends what authz allowed; the question goes on, else nobody would know what authz holds for it.
	client := req.Context()
	ctx, cancel := context.WithCancel(context.WithoutCancel(client))
	defer cancel()
	timer := time.AfterFunc(g.timeout, cancel)
	defer timer.Stop()
	shared := &sync.Map{}
	stop := context.AfterFunc(client, func() {
		shared.Store(leftKey, true)
		if isSet(shared, allowedKey) {
			cancel()
		}
	})
	defer stop()
	answer := http.Header{}
	ctx = context.WithValue(ctx, timerKey, timer)
	ctx = context.WithValue(ctx, answerKey, answer)
	ctx = context.WithValue(ctx, sharedKey, shared)
	req = req.WithContext(ctx)
	w := &writer{rw: rw, control: http.NewResponseController(rw), answer: answer, shared: shared, direct: g.direct}
	if !upgrade {
		rw = w // else the connection itself is handed over: it cannot be wrapped
	}
	if g.reports == nil {
		g.next.ServeHTTP(rw, req)
		return
	}
	req.Header["Accept-Encoding"] = []string{"identity"} // what is compressed cannot be read along
	w.tee = &tee{}
	whole := false
	number := g.reports.begin(shared)
	// Also where the handlers behind panic, as they do when the client leaves.
	defer func() { g.reports.end(number, w.ended(upgrade, whole, begun)) }()
	g.next.ServeHTTP(rw, req)
	whole = true
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

// seen says what this Traefik sees itself, in the place of what a trusted proxy may have passed on from its client.
func seen(req *http.Request) {
	req.Header["X-Forwarded-Host"] = []string{req.Host}
	req.Header["X-Forwarded-Proto"] = []string{"http"}
	if req.TLS != nil {
		req.Header["X-Forwarded-Proto"] = []string{"https"}
	}
	delete(req.Header, "X-Forwarded-Port")
}

func isOurs(plain string) bool {
	return plain == "x-authz" || strings.HasPrefix(plain, "x-authz-")
}

func isSet(shared *sync.Map, key string) bool {
	_, set := shared.Load(key)
	return set
}
