package keeper

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// orphan is how long a stand-by looks for a keeper in place of one that has ended.
const orphan = 20 * time.Second

// follow waits for the end of the worker. Who stands by begins nothing: a keeper is started only if a holder has what an earlier one had.
func (c *Client) follow(ctx context.Context) (answer, error) {
	seen := time.Now()
	var started <-chan error // tells the end of a keeper that this process has started
	for ctx.Err() == nil {
		err := c.dial()
		if err == nil {
			var a answer
			if a, err = c.hello(ctx, 'B'); err == nil {
				return a, nil
			}
			ended := c.ended()
			if err = errors.Join(err, unix.Close(c.conn), unix.Close(c.pidfd)); !ended {
				return answer{}, fmt.Errorf("another process stands by: %w", err)
			}
			seen = time.Now()
		}
		if h, failed := readHolder(c.options.Dir); started == nil && failed == nil && h != nil && !h.Keeper.lives() && c.options.Program != nil {
			if started, err = c.startKeeper(); err != nil { // of several that are started one stays
				return answer{}, err
			}
		}
		if time.Since(seen) > orphan {
			return answer{}, fmt.Errorf("no keeper is there any more: %w", err)
		}
		select {
		case <-started:
			started = nil
		case <-time.After(2 * time.Millisecond):
		}
	}
	return answer{}, context.Cause(ctx)
}

// nameStandBy tells the keeper who is to stand by.
func (c *Client) nameStandBy() {
	if len(c.options.StandBy) == 0 {
		return
	}
	request := []byte("P")
	for _, list := range [][]string{c.options.StandBy, {""}, c.options.Environment} {
		for _, s := range list {
			request = append(append(request, s...), 0)
		}
	}
	err := errTooLong
	if len(request) <= requestSize && !strings.Contains(strings.Join(append(c.options.StandBy, c.options.Environment...), ""), "\x00") {
		_, err = c.ask(request)
	}
	switch {
	case errors.Is(err, unix.EINVAL):
		c.say("nobody stands by: the keeper that runs is of an older version")
	case err != nil && !errors.Is(err, ErrGone):
		c.say("nobody stands by: %v", err)
	}
}

var errTooLong = errors.New("arguments and environment of the program are longer than a request may be")
