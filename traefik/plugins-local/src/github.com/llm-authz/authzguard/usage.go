package authzguard

import (
	"bytes"
	"encoding/json"
	"strings"
)

const (
	longestLine  = 1 << 20  // bytes of one line of a stream that are waited for
	wholeBody    = 1 << 20  // bytes of a body that are kept to be read at its end
	keptTail     = 16 << 10 // bytes that are kept of a longer one
	longestUsage = 16 << 10 // bytes
)

var (
	usageKey   = []byte(`"usage"`)
	noUsage    = []byte(`"usage":null`)
	noUsage2   = []byte(`"usage": null`)
	dataPrefix = []byte("data:")
	lineEnd    = []byte("\n")
)

type object map[string]json.RawMessage

// tee reads along what a model server answers, after it went out, and finds what it says of the tokens it used.
//
// An interpreted statement takes as long as hundreds of bytes in Go's library, so the library searches, and only lines
// with a usage are looked at. The text of an answer cannot be taken for one: in JSON its quotes are escaped.
type tee struct {
	bytes    int64
	events   bool // server-sent events
	document bool // one JSON document
	kept     []byte
	cut      bool // the beginning of the document, or of the line, is not in `kept`
	usage    object
}

// begin is told the type of the answer's content.
func (t *tee) begin(contentType string) {
	contentType = strings.ToLower(contentType)
	t.events = strings.HasPrefix(contentType, "text/event-stream")
	t.document = !t.events && strings.Contains(contentType, "json")
}

func (t *tee) take(part []byte) {
	t.bytes += int64(len(part))
	if t.events {
		// Most parts are whole lines without a usage; calls are dear.
		if len(t.kept) == 0 && !t.cut && bytes.HasSuffix(part, lineEnd) &&
			bytes.Count(part, usageKey) == bytes.Count(part, noUsage) {
			return
		}
		t.takeLines(part)
	} else if t.document {
		t.takeDocument(part)
	}
}

// takeLines reads what is complete and keeps the rest.
func (t *tee) takeLines(part []byte) {
	end := bytes.LastIndexAny(part, "\r\n") + 1
	if end > 0 && (t.cut || len(t.kept) > 0) {
		first := bytes.IndexAny(part, "\r\n")
		if !t.cut {
			t.kept = append(t.kept, part[:first]...)
			t.readLines(t.kept)
		}
		t.kept = t.kept[:0]
		t.cut = false
		t.readLines(part[first:end])
	} else if end > 0 {
		t.readLines(part[:end])
	}
	if end == len(part) || t.cut {
		return
	}
	if len(t.kept)+len(part)-end > longestLine {
		t.kept = nil
		t.cut = true
		return
	}
	t.kept = append(t.kept, part[end:]...)
}

// readLines looks at each line that has a usage.
func (t *tee) readLines(lines []byte) {
	for {
		at := bytes.Index(lines, usageKey)
		if at < 0 {
			return
		}
		begin := bytes.LastIndexAny(lines[:at], "\r\n") + 1
		end := len(lines)
		if length := bytes.IndexAny(lines[at:], "\r\n"); length >= 0 {
			end = at + length
		}
		if line := lines[begin:end]; bytes.HasPrefix(line, dataPrefix) {
			t.readEvent(line[len(dataPrefix):])
		}
		lines = lines[end:]
	}
}

// readEvent knows where each API has it: on top, in `message` (Anthropic's first event), in `response` (Responses).
func (t *tee) readEvent(data []byte) {
	if bytes.Count(data, usageKey) == bytes.Count(data, noUsage)+bytes.Count(data, noUsage2) {
		return
	}
	event := read(data)
	t.merge(read(event["message"])["usage"])
	t.merge(read(event["response"])["usage"])
	t.merge(event["usage"])
}

func (t *tee) takeDocument(part []byte) {
	if len(t.kept)+len(part) > wholeBody {
		t.cut = true
	}
	if t.cut && len(part) >= keptTail {
		t.kept = append(t.kept[:0], part[len(part)-keptTail:]...)
		return
	}
	t.kept = append(t.kept, part...)
	if t.cut && len(t.kept) > 2*keptTail {
		t.kept = append([]byte{}, t.kept[len(t.kept)-keptTail:]...)
	}
}

// end reads what is left. Nil: there was no usage.
func (t *tee) end() json.RawMessage {
	if t.events && !t.cut {
		t.readLines(t.kept)
	} else if t.document && t.cut {
		t.readTail()
	} else if t.document {
		t.merge(read(t.kept)["usage"])
	}
	t.kept = nil
	if t.usage == nil {
		return nil
	}
	text, err := json.Marshal(t.usage)
	if err != nil || len(text) > longestUsage {
		return nil
	}
	return text
}

// readTail takes the last key `usage` from which the document goes on to its very end as the members of one object do:
// the object that ends there is the document, so the key is one of its own.
func (t *tee) readTail() {
	end := len(t.kept) // of the loop itself it would be reset in each round: Yaegi 0.16
	for {
		at := bytes.LastIndex(t.kept[:end], usageKey)
		if at < 0 {
			return
		}
		before := bytes.TrimRight(t.kept[:at], " \t\r\n")
		if len(before) > 0 && (before[len(before)-1] == ',' || before[len(before)-1] == '{') {
			if document := read(append([]byte{'{'}, t.kept[at:]...)); document != nil {
				t.merge(document["usage"])
				return
			}
		}
		end = at
	}
}

// merge: what comes later is truer; what is null says nothing.
func (t *tee) merge(usage json.RawMessage) {
	for key, value := range read(usage) {
		if t.usage == nil {
			t.usage = object{}
		}
		if string(value) != "null" {
			t.usage[key] = value
		}
	}
}

// read gives nil for what is no object.
func read(text []byte) object {
	var found object
	if len(text) == 0 || json.Unmarshal(text, &found) != nil {
		return nil
	}
	return found
}
