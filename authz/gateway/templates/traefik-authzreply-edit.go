package authzreply

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
)

var errUnlike = errors.New("authzreply: the change does not fit the body")

// edit changes the body as authz said: `LENGTH OFFSET+REMOVE=TEXT...`, the length that of the body that it saw, the
// places in ascending order. Whatever does not fit exactly is an error: what authz holds may depend on the change.
func edit(req *http.Request, changes []string) error {
	if len(changes) != 1 || req.Body == nil {
		return errUnlike
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return err
	}
	body, err = edited(body, changes[0])
	if err != nil {
		return err
	}
	req.Body = io.NopCloser(bytes.NewReader(body))
	req.ContentLength = int64(len(body))
	req.TransferEncoding = nil
	req.Header["Content-Length"] = []string{strconv.Itoa(len(body))}
	return nil
}

func edited(body []byte, change string) ([]byte, error) {
	parts := strings.Split(change, " ")
	length, err := strconv.ParseUint(parts[0], 10, 31)
	if err != nil || int(length) != len(body) {
		return nil, errUnlike
	}
	out := make([]byte, 0, len(body)+len(change))
	done := 0
	for _, splice := range parts[1:] {
		place, text, found := strings.Cut(splice, "=")
		from, count, both := strings.Cut(place, "+")
		offset, err := strconv.ParseUint(from, 10, 31)
		remove, err2 := strconv.ParseUint(count, 10, 31)
		if !found || !both || err != nil || err2 != nil || int(offset) < done || int(offset+remove) > len(body) {
			return nil, errUnlike
		}
		out = append(out, body[done:int(offset)]...)
		out = append(out, text...)
		done = int(offset + remove)
	}
	return append(out, body[done:]...), nil
}
