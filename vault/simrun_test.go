package vault

import (
	"context"
	"flag"
	"fmt"
	"testing"
)

var (
	simSeeds = flag.Int("vaultseeds", 200, "how many seeds of the vault's simulation to play; 3 of them with -short")
	simFirst = flag.Uint64("vaultfirst", 1, "the first of them")
	simSeed  = flag.Uint64("vaultseed", 0, "play this one seed")
)

// simulate plays a seed and tells what was wrong.
func simulate(seed uint64) (*world, error) {
	w, err := newWorld(seed)
	if err != nil {
		return nil, err
	}
	w.start("w1", w.writer("w1"))
	w.start("w2", w.writer("w2"))
	w.start("w3", w.writer("w3"))
	w.start("compactor", w.compactor)
	if seed%3 == 0 {
		w.start("compactor2", w.compactor)
	}
	w.start("pruner", w.pruner)
	w.start("collector", w.collector)
	w.start("reader1", w.reader)
	w.start("reader2", w.reader)
	w.run(600 + w.rng.IntN(900))
	if len(w.wrong) == 0 {
		w.end()
	}
	if len(w.wrong) > 0 {
		return w, fmt.Errorf("seed %d: %s", seed, w.wrong[0])
	}
	return w, nil
}

func TestSimulation(t *testing.T) {
	if *simSeed != 0 {
		if _, err := simulate(*simSeed); err != nil {
			t.Error(err)
		}
		return
	}
	if testing.Short() {
		*simSeeds = min(*simSeeds, 3)
	}
	total := map[string]int{}
	for seed := *simFirst; seed < *simFirst+uint64(*simSeeds); seed++ {
		w, err := simulate(seed)
		if err != nil {
			t.Errorf("%v (again: go test ./vault -run TestSimulation -vaultseed %d)", err, seed)
			if t.Failed() && seed > 20 {
				break
			}
			continue
		}
		if w.head == nil {
			continue // no writer came to make the stream: the store refused, or other actors took all turns
		}
		c := w.store.Counts()
		for name, n := range map[string]int{"positions": int(w.head.Seq), "epochs": int(w.head.Epoch), "swaps": int(w.head.Version), "sweeps": int(w.head.Swept),
			"lost answers": c.LostAnswers, "lost requests": c.LostRequests, "late": c.Late, "arrived": c.Arrived, "refused": c.Refused, "lost reads": c.LostReads,
			"layers": w.layers(), "views": w.did["reader1"] + w.did["reader2"]} {
			total[name] += n
		}
	}
	t.Logf("%d seeds: %v", *simSeeds, total)
	for name, n := range total {
		if n == 0 && *simSeeds >= 20 {
			t.Errorf("no %s in %d seeds: the simulation shows less than it says", name, *simSeeds)
		}
	}
}

func (w *world) layers() int {
	s, err := w.eye.Stream(context.Background(), simStream)
	if err != nil {
		return 0
	}
	return s.Layers
}
