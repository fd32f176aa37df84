package registrytest

import (
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Fault is something that goes wrong with requests that match. What is left zero does not happen.
type Fault struct {
	Method string // "" for any
	Path   string // regular expression for path and query; "" for any
	Skip   int    // matching requests that go well first
	Times  int    // requests that go wrong; 0: all

	Status     int           // answered instead of what was asked for
	Code       string        // of the error document; "" for UNKNOWN
	RetryAfter time.Duration // said with Status, in whole seconds
	Delay      time.Duration // before the answer
	CutIn      int64         // the connection breaks after that many bytes of the request's body; -1: before the first
	CutOut     int64         // the same of the answer's body; -1: before the answer
	Lost       bool          // the request is carried out, but its answer gets lost
	Range      RangeFault

	seen, done int
	pattern    *regexp.Regexp
}

// RangeFault is a wrong answer to a request for a part of a blob.
type RangeFault int

// Kinds of wrong answers.
const (
	RangeIgnored   RangeFault = iota + 1 // 200 and the whole blob
	RangeShifted                         // another part, and it says so
	RangeOtherSize                       // the right part of a blob of another size
	RangeShort                           // fewer bytes than it says
	RangeUnsaid                          // 206 without Content-Range
)

// Fail adds a fault. Of several that match, the one added first that still has something to do happens.
func (r *Registry) Fail(f Fault) {
	f.pattern = regexp.MustCompile(f.Path)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = append(r.faults, &f)
}

// Heal removes all faults.
func (r *Registry) Heal() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = nil
}

// Forgetting is a registry that has forgotten an upload.
func Forgetting(method string, skip, times int) Fault {
	return Fault{Method: method, Path: `/blobs/uploads/.+`, Skip: skip, Times: times, Status: http.StatusNotFound, Code: "BLOB_UPLOAD_UNKNOWN"}
}

// fault finds the fault that happens to a request.
func (r *Registry) fault(req *http.Request) *Fault {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.faults {
		if f.Method != "" && f.Method != req.Method || !f.pattern.MatchString(req.URL.RequestURI()) {
			continue
		}
		if f.Range != 0 && req.Header.Get("Range") == "" {
			continue
		}
		if f.seen++; f.seen <= f.Skip || f.Times > 0 && f.done >= f.Times {
			continue
		}
		f.done++
		return f
	}
	return nil
}

// apply makes the fault; it says whether the request is answered with that.
func (f *Fault) apply(w *answer, req *http.Request, in *body) bool {
	sleep(req.Context(), f.Delay)
	switch {
	case f.Status != 0:
		if f.RetryAfter > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(int(f.RetryAfter.Seconds())))
		}
		code := f.Code
		if code == "" {
			code = "UNKNOWN"
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(f.Status)
		fmt.Fprintf(w, `{"errors":[{"code":%q,"message":"made to fail by the test"}]}`, code)
		return true
	case f.CutIn != 0:
		in.cutAt = max(0, f.CutIn)
	case f.CutOut != 0:
		w.cutAt = max(0, f.CutOut)
	case f.Lost:
		w.cutAt = 0
	case f.Range != 0:
		return f.falseRange(w, req)
	}
	return false
}

// falseRange prepares a wrong answer to a request for a part.
func (f *Fault) falseRange(w *answer, req *http.Request) bool {
	switch f.Range {
	case RangeIgnored:
		req.Header.Del("Range")
	case RangeShifted:
		first, last, _ := strings.Cut(strings.TrimPrefix(req.Header.Get("Range"), "bytes="), "-")
		start, err := strconv.Atoi(first)
		if err != nil || start == 0 {
			return false
		}
		if end, err := strconv.Atoi(last); err == nil {
			last = strconv.Itoa(end - 1)
		}
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%s", start-1, last))
	case RangeOtherSize:
		w.falsify = func(h http.Header, status int) int {
			if before, _, ok := strings.Cut(h.Get("Content-Range"), "/"); ok {
				h.Set("Content-Range", before+"/999999999999")
			}
			return status
		}
	case RangeShort:
		w.falsify = func(h http.Header, status int) int {
			if n, err := strconv.ParseInt(h.Get("Content-Length"), 10, 64); err == nil && n > 1 {
				h.Del("Content-Length")
				w.cutAt = n / 2
			}
			return status
		}
	case RangeUnsaid:
		w.falsify = func(h http.Header, status int) int {
			h.Del("Content-Range")
			return status
		}
	}
	return false
}
