package workload

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Init is the guest's first program. It never answers; an error is said on the console, and the guest stands.
func Init() {
	console := io.Writer(os.Stdout) // the kernel gave us /dev/console
	s := &system{say: func(format string, args ...any) {
		fmt.Fprintf(console, "UNDERSTUDY-GUEST "+format+"\n", args...)
	}}
	if err := boot(s); err != nil {
		s.say("FAILED %v", err)
	}
	select {}
}

func boot(s *system) error {
	if err := s.mountAll(); err != nil {
		return err
	}
	b, err := os.ReadFile(SettingsPath)
	if err != nil {
		return err
	}
	var settings Settings
	if err := json.Unmarshal(b, &settings); err != nil {
		return fmt.Errorf("%s: %w", SettingsPath, err)
	}
	_ = unix.Sethostname([]byte(settings.Hostname))
	go heedPowerButton(s)
	go heedAgent(s)
	volumes, err := openVolumes(s.mounts)
	if err != nil {
		return err
	}
	r := newRecorder(settings.Hostname, volumes)
	if state := r.now(); state.Verified {
		s.say("VERIFY ok seq=%d", state.Seq)
	} else {
		s.say("VERIFY bad seq=%d: %s", state.Seq, state.Wrong)
	}
	s.network(settings)
	failed := make(chan error, 2)
	go func() { failed <- http.ListenAndServe(":80", handler(r)) }()
	s.say("READY seq=%d", r.now().Seq)
	if settings.Rate != 0 {
		go func() {
			if err := r.run(context.Background(), settings.Rate); err != nil {
				failed <- err
			}
		}()
	}
	return <-failed
}

// openVolumes opens /data of the root disk, unless a disk of its own is mounted there, and every further disk's.
func openVolumes(mounts []string) ([]*volume, error) {
	dirs := []string{"/data"}
	for _, m := range mounts[1:] {
		if m != "/data" {
			dirs = append(dirs, m)
		}
	}
	var out []*volume
	for _, dir := range dirs {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
		v, err := openVolume(strings.TrimPrefix(dir, "/"), dir)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

// heedAgent serves the guest agent's port, if the machine has one.
func heedAgent(s *system) {
	names, _ := filepath.Glob("/sys/class/virtio-ports/*/name")
	for _, name := range names {
		b, _ := os.ReadFile(name)
		if strings.TrimSpace(string(b)) != "org.qemu.guest_agent.0" {
			continue
		}
		for { // the port ends whenever the host's side does
			port, err := os.OpenFile("/dev/"+filepath.Base(filepath.Dir(name)), os.O_RDWR, 0)
			if err == nil {
				_ = serveAgent(port, s)
				port.Close()
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
}

// heedPowerButton shuts down when the power button is pressed.
func heedPowerButton(s *system) {
	const typeKey, codePower = 1, 116
	events, _ := filepath.Glob("/dev/input/event*")
	for _, e := range events {
		f, err := os.Open(e)
		if err != nil {
			continue
		}
		go func() {
			b := make([]byte, 24)
			for {
				if _, err := io.ReadFull(f, b); err != nil {
					return
				}
				le := binary.LittleEndian
				if le.Uint16(b[16:]) == typeKey && le.Uint16(b[18:]) == codePower && le.Uint32(b[20:]) == 1 {
					s.shutdown()
				}
			}
		}()
	}
}
