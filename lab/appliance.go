package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// ApplianceMain is the process that stands for an appliance: it answers the health probe at listen, and with userSpace
// it also forwards every packet itself. It runs until ctx ends. One that is stopped or killed does neither.
func ApplianceMain(ctx context.Context, listen string, userSpace bool) error {
	if userSpace {
		forward, err := openForwarder()
		if err != nil {
			return err
		}
		defer forward.close()
		forward.run()
	}
	l, err := net.Listen("tcp4", listen)
	if err != nil {
		return fmt.Errorf("health endpoint: %w", err)
	}
	server := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "ok")
	})}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("health endpoint: %w", err)
	}
	return nil
}
