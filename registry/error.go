package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"time"
)

// Errors that callers test for with errors.Is. What a registry does not have is reported as fs.ErrNotExist.
var (
	// ErrDigest says that a registry sent something else than the digest promises.
	ErrDigest = errors.New("the content does not match its digest")
	// ErrRange says that a registry answered a request for a part with something else.
	ErrRange = errors.New("the registry sent another range than the one asked for")
	// ErrNoRanges says that a registry sends whole blobs only.
	ErrNoRanges = errors.New("the registry does not send parts of blobs")
	// ErrTooLarge says that an answer is larger than allowed.
	ErrTooLarge = errors.New("larger than allowed")
	// ErrUnauthorized says that the registry refuses the credentials, or wants some.
	ErrUnauthorized = errors.New("not authorized")
	// ErrUploadLost says that the registry has forgotten an upload: it has to begin again.
	ErrUploadLost = errors.New("the registry has lost the upload")
)

// Error is a registry's answer other than success.
type Error struct {
	Method, URL string // the URL without its query, which may carry secrets
	Status      int
	Codes       []string // of the error document, for example MANIFEST_UNKNOWN
	Message     string
	RetryAfter  time.Duration // 0: not said
}

// Error says what was asked and what the registry answered.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s: %d %s", e.Method, e.URL, e.Status, http.StatusText(e.Status))
	if len(e.Codes) > 0 {
		fmt.Fprintf(&b, " (%s)", strings.Join(e.Codes, ", "))
	}
	if e.Message != "" {
		b.WriteString(": " + e.Message)
	}
	switch e.Status {
	case http.StatusUnauthorized, http.StatusForbidden:
		b.WriteString("; check that you are logged in to this registry and may use the repository")
	case http.StatusTooManyRequests:
		b.WriteString("; the registry limits requests, try again later or log in")
	}
	return b.String()
}

// Is makes errors.Is work with fs.ErrNotExist and ErrUnauthorized.
func (e *Error) Is(target error) bool {
	switch target {
	case fs.ErrNotExist:
		return e.Status == http.StatusNotFound
	case ErrUnauthorized:
		return e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden
	}
	return false
}

// newError reads the error document of an answer (distribution-spec, "Error codes") and closes it.
func newError(resp *http.Response) *Error {
	defer resp.Body.Close()
	e := &Error{Method: resp.Request.Method, URL: bareURL(resp.Request), Status: resp.StatusCode, RetryAfter: retryAfter(resp.Header, time.Now())}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return e
	}
	e.Codes, e.Message = parseErrors(body)
	return e
}

func parseErrors(body []byte) (codes []string, message string) {
	var doc struct {
		Errors []struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"errors"`
		Details string `json:"details"` // of some token servers
	}
	if json.Unmarshal(body, &doc) != nil {
		return nil, ""
	}
	var messages []string
	for _, e := range doc.Errors[:min(len(doc.Errors), 5)] {
		codes = append(codes, printable(e.Code, 64))
		if e.Message != "" {
			messages = append(messages, printable(e.Message, 300))
		}
	}
	if doc.Details != "" {
		messages = append(messages, printable(doc.Details, 300))
	}
	return codes, strings.Join(messages, "; ")
}

// printable makes foreign text safe to print.
func printable(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if r := []rune(s); len(r) > limit {
		return string(r[:limit]) + "…"
	}
	return s
}

func bareURL(r *http.Request) string {
	u := *r.URL
	u.RawQuery, u.User, u.Fragment = "", nil, ""
	return u.String()
}
