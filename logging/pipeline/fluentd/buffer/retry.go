package buffer

import (
	"math"
	"time"
)

// Policy says how often and how long a delivery is tried again (lib/fluent/plugin_helper/retry_state.rb).
type Policy struct {
	Periodic    bool
	Wait        time.Duration
	Base        float64
	MaxInterval time.Duration // 0 for none
	Timeout     time.Duration // from the first failure on
	MaxTimes    int           // -1 for no limit
	Forever     bool
	Randomize   bool
	Secondary   bool    // there is one, which takes over after Threshold
	Threshold   float64 // of the whole time, above 0 and below 1
}

// Retry is the state between the first failure of an output and its next success. It is not safe for concurrent use.
type Retry struct {
	policy    Policy
	random    func() float64 // in [0,1)
	Steps     int
	Next      time.Time
	timeout   time.Time
	switching time.Time // when the secondary takes over
	switched  bool
	offset    int // steps of the primary
	reached   bool
	over      bool
}

// NewRetry begins with a failure now.
func NewRetry(p Policy, now time.Time, random func() float64) *Retry {
	r := &Retry{policy: p, random: random, Next: now.Add(p.Wait), timeout: now.Add(p.Timeout)}
	if p.Secondary {
		longest := p.Timeout
		if p.MaxTimes >= 0 {
			longest = min(longest, r.total(p.MaxTimes))
		}
		r.switching = now.Add(time.Duration(float64(longest) * p.Threshold))
	}
	return r
}

// total is the time that a number of tries takes.
func (r *Retry) total(times int) time.Duration {
	sum := time.Duration(0)
	for i := range times {
		if sum += r.interval(i); sum >= r.policy.Timeout {
			return r.policy.Timeout
		}
	}
	return sum
}

// longestInterval keeps arithmetic within time.Duration.
const longestInterval = 10 * 365 * 24 * time.Hour

func (r *Retry) interval(step int) time.Duration {
	wait := float64(r.policy.Wait)
	if !r.policy.Periodic {
		wait *= math.Pow(r.policy.Base, float64(step))
	}
	d := longestInterval
	if wait < float64(longestInterval) {
		d = time.Duration(wait)
	}
	if most := r.policy.MaxInterval; most > 0 && !r.policy.Periodic {
		d = min(d, most)
	}
	return d
}

// InSecondary tells whether the secondary output is to be used.
func (r *Retry) InSecondary(now time.Time) bool {
	return !r.policy.Forever && r.policy.Secondary && (r.switched || !now.Before(r.switching))
}

// Failed counts one more failure.
func (r *Retry) Failed(now time.Time) {
	if now.Before(r.Next) { // another worker failed at the same time: this is no new try
		r.Next = r.next(now)
		return
	}
	r.Steps++
	if !r.switched && r.InSecondary(now) {
		r.switched, r.offset = true, r.Steps
	}
	r.Next = r.next(now)
	if r.reached {
		r.over = !r.Next.Before(r.timeout)
	} else {
		r.reached = !r.Next.Before(r.timeout)
	}
}

func (r *Retry) next(now time.Time) time.Time {
	d := r.interval(r.Steps - r.offset)
	if r.policy.Randomize { // an eighth more or less
		d += time.Duration(float64(d) * 0.125 * (2*r.random() - 1))
	}
	at := now.Add(d)
	switch {
	case r.policy.Forever:
		return at
	case r.policy.Secondary && !r.switched:
		if at.After(r.switching) {
			return r.switching
		}
		return at
	case at.After(r.timeout):
		return r.timeout
	}
	return at
}

// Exhausted tells whether nothing is left to be tried.
func (r *Retry) Exhausted() bool {
	return !r.policy.Forever && (r.over || r.policy.MaxTimes >= 0 && r.Steps >= r.policy.MaxTimes)
}
