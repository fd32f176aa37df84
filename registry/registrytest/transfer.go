package registrytest

import (
	"context"
	"io"
	"net/http"
)

// answer counts, slows, falsifies and cuts what goes out.
type answer struct {
	http.ResponseWriter
	registry    *Registry
	ctx         context.Context
	status      int
	n           int64
	cutAt       int64 // bytes of the body after which the connection breaks; -1: never
	cut         bool
	hideSubject bool
	falsify     func(http.Header, int) int // changes an answer's head
}

func (a *answer) WriteHeader(status int) {
	if a.status != 0 {
		return
	}
	if a.falsify != nil {
		status = a.falsify(a.Header(), status)
	}
	if a.hideSubject {
		a.Header().Del("OCI-Subject")
	}
	a.status = status
	if a.cutAt == 0 {
		a.cut = true
		return
	}
	a.ResponseWriter.WriteHeader(status)
}

// Write sends p, as slowly as the registry is; after the cut it says that the connection is gone.
func (a *answer) Write(p []byte) (int, error) {
	if a.status == 0 {
		a.WriteHeader(http.StatusOK)
	}
	written := 0
	for len(p) > 0 {
		if a.cut {
			return written, io.ErrClosedPipe
		}
		step := p[:min(len(p), 32<<10)]
		if a.cutAt >= 0 && a.n+int64(len(step)) >= a.cutAt {
			step = step[:a.cutAt-a.n]
			a.cut = true
		}
		if err := a.registry.wait(a.ctx, len(step)); err != nil {
			return written, err
		}
		n, err := a.ResponseWriter.Write(step)
		a.n += int64(n)
		written += n
		if a.cut {
			_ = http.NewResponseController(a.ResponseWriter).Flush()
		}
		if err != nil {
			return written, err
		}
		p = p[n:]
	}
	return written, nil
}

// body counts, slows and cuts what comes in.
type body struct {
	io.ReadCloser
	registry *Registry
	ctx      context.Context
	n        int64
	cutAt    int64
	cut      bool
}

func (b *body) Read(p []byte) (int, error) {
	if b.cutAt >= 0 {
		if b.n >= b.cutAt {
			b.cut = true
			return 0, io.ErrUnexpectedEOF
		}
		p = p[:min(int64(len(p)), b.cutAt-b.n)]
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), 32<<10)])
	b.n += int64(n)
	if e := b.registry.wait(b.ctx, n); err == nil {
		err = e
	}
	return n, err
}

// wait shares the bandwidth.
func (r *Registry) wait(ctx context.Context, n int) error {
	if r.limiter == nil {
		return nil
	}
	for n > 0 {
		step := min(n, r.limiter.Burst())
		if err := r.limiter.WaitN(ctx, step); err != nil {
			return err
		}
		n -= step
	}
	return nil
}
