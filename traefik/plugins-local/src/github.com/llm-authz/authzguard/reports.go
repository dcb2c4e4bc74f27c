package authzguard

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"strconv"
	"sync"
	"time"
)

const (
	mostWaiting = 10000 // reports
	mostAtOnce  = 100   // reports in one call
	mostRunning = 1000  // reservations in one call
	pause       = 10 * time.Millisecond
	longestWait = 2 * time.Second // between two attempts
	patience    = 5 * time.Second // for an answer
	unreadable  = "unreadable"
)

// report is the end of one response, or a sign of life: an item of `POST /v1/usage`.
type report map[string]interface{}

// reports tells authz what became of the requests that it allowed, without making any of them wait.
//
// Traefik makes a new plugin with each change of its configuration and tells the old one nothing. So nothing runs here
// for longer than it has something to do: an old plugin delivers what it holds, outlives its last response, and ends.
type reports struct {
	address string
	token   string
	every   time.Duration // between two signs of life
	client  *http.Client

	mutex      sync.Mutex
	open       map[int64]*sync.Map // what the plugins share of each request that runs
	last       int64               // its key in `open`
	waiting    []report            // the oldest first
	alone      int                 // how many of them are sent one by one
	lost       int
	delivering bool
	telling    bool
}

func newReports(address, token string, connection *tls.Config, lease time.Duration) *reports {
	client := &http.Client{
		Timeout:   patience,
		Transport: &http.Transport{TLSClientConfig: connection, MaxIdleConnsPerHost: 2, IdleConnTimeout: 4 * time.Second},
		// The token is for this address only.
		CheckRedirect: func(_ *http.Request, _ []*http.Request) error { return http.ErrUseLastResponse },
	}
	return &reports{address: address, token: token, every: lease / 3, client: client, open: map[int64]*sync.Map{}}
}

// begin is called with each request; what it gives is for `end`.
func (r *reports) begin(shared *sync.Map) int64 {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.last++
	r.open[r.last] = shared
	if !r.telling {
		r.telling = true
		go r.tell()
	}
	return r.last
}

// end is called when a response has ended, with nil where authz allowed nothing. What is new is dropped if too much
// waits: authz charges what it held for it.
func (r *reports) end(number int64, ended report) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	delete(r.open, number)
	if ended == nil {
		return
	}
	if len(r.waiting) >= mostWaiting {
		if r.lost == 0 {
			log.Printf("authzguard: more than %d reports wait for authz, further ones are lost", mostWaiting)
		}
		r.lost++
		return
	}
	r.waiting = append(r.waiting, ended)
	if !r.delivering {
		r.delivering = true
		go r.deliver()
	}
}

// deliver sends what waits, as often as it takes. The first report goes at once, since a client's next request may need
// what it gives back; those that end meanwhile go together.
func (r *reports) deliver() {
	failed := ""
	wait := time.Duration(0)
	for {
		batch := r.next()
		if len(batch) == 0 {
			return
		}
		problem := r.post(batch)
		if problem == unreadable {
			r.reduce(batch)
			continue
		}
		if problem == "" {
			if failed != "" {
				log.Printf("authzguard: authz takes reports again")
			}
			r.delivered(len(batch))
			failed = ""
			wait = 0
			time.Sleep(pause)
			continue
		}
		if problem != failed {
			log.Printf("authzguard: authz takes no reports (%s), they wait", problem)
		}
		failed = problem
		wait = 2*wait + 10*pause
		if wait > longestWait {
			wait = longestWait
		}
		time.Sleep(wait)
	}
}

func (r *reports) next() []report {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	count := len(r.waiting)
	if count == 0 {
		r.delivering = false
		return nil
	}
	if count > mostAtOnce {
		count = mostAtOnce
	}
	if r.alone > 0 {
		count = 1
	}
	return append([]report{}, r.waiting[:count]...)
}

func (r *reports) delivered(count int) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.waiting = append([]report{}, r.waiting[count:]...)
	if r.alone > 0 {
		r.alone--
	}
	if r.lost > 0 {
		log.Printf("authzguard: %d reports were lost", r.lost)
		r.lost = 0
	}
}

// reduce makes sure that a model server's nonsense costs no other report, and its own no more than its usage.
func (r *reports) reduce(batch []report) {
	if len(batch) > 1 {
		r.mutex.Lock()
		r.alone = len(batch)
		r.mutex.Unlock()
		return
	}
	if batch[0]["usage"] != nil {
		log.Printf("authzguard: authz cannot read what %v used", batch[0]["reservation"])
		batch[0]["usage"] = nil
		return
	}
	log.Printf("authzguard: authz cannot read the report of %v, it is lost", batch[0]["reservation"])
	r.delivered(1)
}

// tell says of every response that runs that it does. A sign of life that is lost is made up for by the next.
func (r *reports) tell() {
	for {
		time.Sleep(r.every)
		alive, busy := r.running()
		if !busy {
			return
		}
		for len(alive) > 0 {
			count := len(alive)
			if count > mostRunning {
				count = mostRunning
			}
			_ = r.post(alive[:count])
			alive = alive[count:]
		}
	}
}

func (r *reports) running() ([]report, bool) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	alive := []report{}
	for _, shared := range r.open {
		if reservation := reservationOf(shared); reservation != "" {
			alive = append(alive, report{"reservation": reservation, "running": true})
		}
	}
	r.telling = len(r.open) > 0
	return alive, r.telling
}

// post gives what went wrong, if anything did.
func (r *reports) post(batch []report) string {
	text, err := json.Marshal(batch)
	if err != nil {
		return unreadable
	}
	call, err := http.NewRequest(http.MethodPost, r.address, bytes.NewReader(text))
	if err != nil {
		return "its address is none"
	}
	call.Header["Content-Type"] = []string{"application/json"}
	if r.token != "" {
		call.Header[tokenHeader] = []string{r.token}
	}
	answer, err := r.client.Do(call)
	if err != nil {
		return "no answer"
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 1<<20))
	_ = answer.Body.Close()
	switch answer.StatusCode {
	case http.StatusOK:
		return ""
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge:
		return unreadable
	}
	return "status " + strconv.Itoa(answer.StatusCode)
}

func reservationOf(shared *sync.Map) string {
	value, _ := shared.Load(reservationKey)
	reservation, _ := value.(string)
	return reservation
}
