package lab

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"
)

// written plays n writes into images: all states of a disk, one after each.
func written(t *testing.T, n int) (h *history, images [][]byte, answered []int64) {
	t.Helper()
	h = newHistory(64)
	rng := rand.New(rand.NewPCG(1, 2))
	image := make([]byte, 64*sectorSize)
	for i := range n {
		count := 2 + rng.Uint32N(6)
		place := rng.Uint32N(64 - count)
		zero := i%7 == 6
		q := h.begin(place, count, zero)
		p := h.data(q)
		if zero {
			clear(p)
		}
		copy(image[place*sectorSize:], p)
		time.Sleep(time.Microsecond)
		h.end(q)
		images, answered = append(images, append([]byte{}, image...)), append(answered, time.Now().UnixNano())
		time.Sleep(time.Microsecond)
	}
	return h, images, answered
}

func TestEveryPrefixIsOne(t *testing.T) {
	h, images, answered := written(t, 200)
	for i, image := range images {
		if err := h.judge(image, bounds{answered[i], answered[i]}); err != nil {
			t.Fatalf("after write %d: %v", i+1, err)
		}
	}
}

func TestWhatIsNoPrefixIsTold(t *testing.T) {
	h, images, answered := written(t, 200)
	last := len(images) - 1
	sector := func(image []byte, s int) []byte { return image[s*sectorSize:][:sectorSize] }
	held := 0 // a sector that is not zero at the end, nor was long before
	for allZero(sector(images[last], held)) || allZero(sector(images[last-100], held)) || string(sector(images[last], held)) == string(sector(images[last-100], held)) {
		held++
	}
	for name, c := range map[string]struct {
		spoil func(image []byte)
		b     bounds
	}{
		"a write is lost":           {func(image []byte) { copy(sector(image, held), sector(images[last-100], held)) }, bounds{}},
		"a write is lost to zeroes": {func(image []byte) { clear(sector(image, held)) }, bounds{}},
		"a sector is torn":          {func(image []byte) { sector(image, held)[400] ^= 1 }, bounds{}},
		"a sector is misplaced":     {func(image []byte) { copy(sector(image, (held+1)%64), sector(image, held)) }, bounds{}},
		"it is too old":             {func(image []byte) { copy(image, images[last-100]) }, bounds{answeredBy: answered[last]}},
		"it is too new":             {func([]byte) {}, bounds{sentBy: answered[last-100]}},
	} {
		image := append([]byte{}, images[last]...)
		c.spoil(image)
		if err := h.judge(image, c.b); !errors.Is(err, errImage) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A write that another followed must be there if the other is, also when a third one was under way all the time.
func TestReorderedWritesAreTold(t *testing.T) {
	h := newHistory(16)
	a := h.begin(0, 2, false)
	h.end(a)
	slow := h.begin(2, 2, false)
	b := h.begin(4, 2, false)
	h.end(b)
	image := make([]byte, 16*sectorSize)
	copy(image[4*sectorSize:], h.data(b))
	if err := h.judge(image, bounds{}); !errors.Is(err, errImage) {
		t.Errorf("the second without the first: %v", err)
	}
	copy(image, h.data(a))
	if err := h.judge(image, bounds{}); err != nil {
		t.Errorf("without the one that was under way: %v", err)
	}
	copy(image[2*sectorSize:], h.data(slow)[:sectorSize])
	if err := h.judge(image, bounds{}); !errors.Is(err, errImage) {
		t.Errorf("with a half of it: %v", err)
	}
	h.again(slow)
	if err := h.judge(image, bounds{}); err != nil {
		t.Errorf("with a half of it, after it was sent again: %v", err)
	}
}
