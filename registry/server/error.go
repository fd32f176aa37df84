package server

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"strconv"
	"syscall"
)

// Error is an answer other than success. Codes are those of distribution-spec, "Error codes".
type Error struct {
	Status  int
	Code    string
	Message string
	Detail  any
	header  http.Header
}

// Error is the message with its code.
func (e *Error) Error() string { return e.Code + ": " + e.Message }

func (e *Error) write(w http.ResponseWriter, r *http.Request) {
	for name, values := range e.header {
		w.Header()[name] = values
	}
	type entry struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Detail  any    `json:"detail,omitempty"`
	}
	body, err := json.Marshal(map[string][]entry{"errors": {{e.Code, e.Message, e.Detail}}})
	if err != nil {
		body = []byte(`{"errors":[{"code":"UNKNOWN"}]}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(e.Status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body)
	}
}

// classify answers errors of the storage and of reading the request.
func classify(err error) *Error {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return &Error{Status: http.StatusRequestEntityTooLarge, Code: "SIZE_INVALID", Message: "larger than the " + strconv.FormatInt(tooLarge.Limit, 10) + " bytes allowed here"}
	case errors.Is(err, ErrDigest):
		return &Error{Status: http.StatusBadRequest, Code: "DIGEST_INVALID", Message: err.Error()}
	case errors.Is(err, ErrBusy):
		return &Error{Status: http.StatusConflict, Code: "BLOB_UPLOAD_INVALID", Message: err.Error()}
	case errors.Is(err, fs.ErrNotExist):
		return &Error{Status: http.StatusNotFound, Code: "BLOB_UNKNOWN", Message: err.Error()}
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, context.Canceled):
		return &Error{Status: http.StatusBadRequest, Code: "SIZE_INVALID", Message: "the request ended early: " + err.Error()}
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return &Error{Status: http.StatusInsufficientStorage, Code: "UNKNOWN", Message: err.Error()}
	}
	return &Error{Status: http.StatusInternalServerError, Code: "UNKNOWN", Message: err.Error()}
}
