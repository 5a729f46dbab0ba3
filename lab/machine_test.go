package lab

import "testing"

func TestAMachineIsRehearsed(t *testing.T) {
	t.Parallel()
	o := testOptions(t)
	o.Rounds = 1
	r := runScenario(t, "drill", o)
	for _, name := range []string{"rpo_p50", "rpo_p99"} {
		if figure(t, r, name, "") <= 0 {
			t.Errorf("%s is not measured", name)
		}
	}
}

func TestAMachineIsRecovered(t *testing.T) {
	t.Parallel()
	runScenario(t, "recovery", testOptions(t))
}

func TestAMachineComesHome(t *testing.T) {
	t.Parallel()
	r := runScenario(t, "failback", testOptions(t))
	if figure(t, r, "differing_bytes", "") > figure(t, r, "resync_bytes", "") {
		t.Error("more differed than was compared")
	}
}
