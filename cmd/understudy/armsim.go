package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/understudy-ha/understudy/cloud/azure/armsim"
	"github.com/understudy-ha/understudy/pki"
)

// armsimFlags of the simulator.
type armsimFlags struct {
	listen, topology, token, caFile string
	scale                           float64
	seed                            uint64
	tls                             bool
}

func armsimVerb(c *console) *cobra.Command {
	f := armsimFlags{listen: "127.0.0.1:9443", scale: 1, seed: 1, caFile: "armsim-ca.pem"}
	cmd := &cobra.Command{
		Use:   "armsim --topology FILE",
		Short: "Simulate Azure Resource Manager, to rehearse without a cloud",
		Long: `Simulate the part of Azure Resource Manager that moves public addresses and routes, until interrupted: slow operations,
throttling, conflicts, missing permissions, operations that fail or get lost. FILE says what exists, who may do what, how long
things take and what goes wrong, as JSON.

A Provider of type Azure uses it with endpoint https://LISTEN, credential type Static and caFile: providers want
https, so start it with --tls.`,
		Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error { return c.runARMSim(cmd.Context(), f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.listen, "listen", f.listen, "HOST:PORT to serve on")
	flags.StringVar(&f.topology, "topology", "", "JSON file with NICs, addresses, route tables, roles, latencies and faults")
	flags.Float64Var(&f.scale, "time-scale", f.scale, "how many times faster than the clock operations run")
	flags.Uint64Var(&f.seed, "seed", f.seed, "seed of everything random")
	flags.StringVar(&f.token, "token", "", "bearer token that requests must carry (default: any)")
	flags.BoolVar(&f.tls, "tls", false, "serve https with a certificate made for this run")
	flags.StringVar(&f.caFile, "ca-file", f.caFile, "with --tls: where to write the certificate, for the Provider's caFile")
	return cmd
}

func (c *console) runARMSim(ctx context.Context, f armsimFlags) error {
	if f.topology == "" {
		return usagef("armsim: --topology is missing: want a JSON file that says what exists")
	}
	top, err := armsim.LoadTopology(f.topology)
	if err != nil {
		return err
	}
	sim, err := armsim.New(armsim.Options{Seed: f.seed, TimeScale: f.scale, Token: f.token, Topology: top})
	if err != nil {
		return &usageError{err.Error()}
	}
	l, err := net.Listen("tcp", f.listen)
	if err != nil {
		return err
	}
	scheme := "http"
	if f.tls {
		scheme = "https"
		conf, err := selfSigned(f.listen, f.caFile)
		if err != nil {
			return errors.Join(err, l.Close())
		}
		l = tls.NewListener(l, conf)
		c.say("The certificate is in %s: name it as the Provider's spec.azure.caFile, by a path on the controllers.", f.caFile)
	}
	c.say("ARM is simulated at %s://%s, %g times as fast as the clock.", scheme, l.Addr(), f.scale)
	return serveUntil(ctx, &http.Server{Handler: sim.Handler(), ReadHeaderTimeout: 10 * time.Second}, l)
}

// serveUntil serves on l until ctx ends.
func serveUntil(ctx context.Context, srv *http.Server, l net.Listener) error {
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(l) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	err := srv.Close()
	<-failed
	return err
}

// selfSigned makes a certificate for the host of listen and writes it to file.
func selfSigned(listen, file string) (*tls.Config, error) {
	key, err := pki.NewKey()
	if err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return nil, usagef("--listen %q: want HOST:PORT", listen)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "armsim"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0), IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, DNSNames: []string{"localhost"}}
	if ip := net.ParseIP(host); ip != nil {
		tmpl.IPAddresses = []net.IP{ip}
	} else if host != "" {
		tmpl.DNSNames = append(tmpl.DNSNames, host)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return nil, err
	}
	err = pki.WriteFile(file, pki.EncodeCert(der), 0o644)
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, err
}
