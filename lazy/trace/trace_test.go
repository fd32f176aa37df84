package trace

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
)

const id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestOrderAndOnce(t *testing.T) {
	tr := New(id)
	tr.Add(1, 10, 20)
	tr.Add(0, 0, 5)
	tr.Add(1, 5, 25)
	tr.Add(1, 0, 40)
	want := []Part{{1, 10, 20}, {0, 0, 5}, {1, 5, 10}, {1, 20, 25}, {1, 0, 5}, {1, 25, 40}}
	if !reflect.DeepEqual(tr.Parts, want) {
		t.Errorf("parts are %v, expected %v", tr.Parts, want)
	}
	if tr.Bytes() != 45*4096 {
		t.Errorf("it has %d bytes", tr.Bytes())
	}
	back, err := Decode(tr.Encode(), id)
	if err != nil || !reflect.DeepEqual(back.Parts, tr.Parts) {
		t.Errorf("read back: %v %v", back, err)
	}
}

// TestEachBlockOnce adds random runs: each block is there once, and groups hold the same blocks.
func TestEachBlockOnce(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		tr, want := New(id), map[[2]int64]bool{}
		for range r.IntN(40) {
			d, first := uint32(r.IntN(3)), int64(r.IntN(100))
			end := first + int64(r.IntN(30))
			tr.Add(d, first, end)
			for b := first; b < end; b++ {
				want[[2]int64{int64(d), b}] = true
			}
		}
		got := map[[2]int64]int{}
		for _, g := range tr.Groups(7 * 4096) {
			for _, p := range g.Parts {
				for b := p.First; b < p.End; b++ {
					got[[2]int64{int64(p.Device), b}]++
				}
			}
		}
		for b := range want {
			if got[b] != 1 {
				t.Fatalf("block %v is there %d times", b, got[b])
			}
		}
		if len(got) != len(want) || tr.Bytes() != int64(len(want))*4096 {
			t.Fatalf("%d blocks, expected %d", len(got), len(want))
		}
	}
}

func TestBadTraces(t *testing.T) {
	for text, want := range map[string]string{
		`{`:                                  "unexpected end",
		`{"version":2,"image":"` + id + `"}`: "format version 2",
		`{"version":1,"image":"other"}`:      "of the image",
		`{"version":1,"image":"` + id + `","parts":[[0,0,1],[0,0,0]]}`: "parts[1]",
		`{"version":1,"image":"` + id + `","parts":[[-1,0,1]]}`:        "parts[0]",
		strings.Repeat(" ", MaxSize+1):                                 "more than",
	} {
		if _, err := Decode([]byte(text), id); !errors.Is(err, ErrTrace) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %v, expected %q", text, err, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"version":1,"image":"` + id + `","parts":[[0,0,1],[1,5,9]]}`))
	f.Add([]byte(`{"version":1,"image":"` + id + `","parts":[[0,4294967296,4294967296]]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		tr, err := Decode(b, id)
		if err != nil {
			return
		}
		back, err := Decode(tr.Encode(), id)
		if err != nil || back.Bytes() != tr.Bytes() {
			t.Errorf("%v: %d bytes became %d", err, tr.Bytes(), back.Bytes())
		}
	})
}
