package server

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/understudy-ha/understudy/controller"
)

// TestFailpointStopsAtOnce runs this test again as a process of its own, which stops itself and must not say another word
// until it is continued.
func TestFailpointStopsAtOnce(t *testing.T) {
	if file := os.Getenv(FailpointEnv); file != "" {
		for range 60 { // threads that keep the one busy which takes the process's signals
			go func() {
				for n := uint64(0); n < 1<<60; n++ { // longer than the test lasts
				}
			}()
		}
		newFailpoints(file).reached(controller.Boundary{Where: controller.AfterIntent})
		fmt.Println("went on")
		os.Stdout.Sync()
		return
	}
	file := filepath.Join(t.TempDir(), "failpoint")
	if err := os.WriteFile(file, []byte("after-intent stop"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestFailpointStopsAtOnce$", "-test.v")
	cmd.Env = append(os.Environ(), FailpointEnv+"="+file, "GOMAXPROCS=64")
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout = out
	said := func() bool {
		b, err := os.ReadFile(out.Name())
		return err == nil && strings.Contains(string(b), "went on")
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var st syscall.WaitStatus
	if _, err := syscall.Wait4(cmd.Process.Pid, &st, syscall.WUNTRACED, nil); err != nil || !st.Stopped() || said() {
		t.Fatalf("%v, stopped %v, went on before %v", err, st.Stopped(), said())
	}
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("the failpoint is armed still: %v", err)
	}
	if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil || !said() {
		t.Errorf("%v, went on after %v", err, said())
	}
}
