package api

import (
	"fmt"
	"time"
)

// Default implements Object.
func (s *Site) Default() { s.fill(KindSite) }

// Default implements Object.
func (f *Fabric) Default() {
	f.fill(KindFabric)
	setIfZero(&f.Spec.Type, FabricQEMU)
}

// Default implements Object.
func (v *Vault) Default() {
	v.fill(KindVault)
	setIfZero(&v.Spec.Tier, TierStandard)
	switch v.Spec.Tier {
	case TierPremium:
		setIfZero(&v.Spec.MaxRetention, Duration(24*time.Hour))
	case TierStandard:
		setIfZero(&v.Spec.MaxRetention, Duration(72*time.Hour))
	}
}

// Default implements Object.
func (p *ReplicationPolicy) Default() {
	p.Header.fill(KindReplicationPolicy)
	p.Spec.fill()
}

func (s *PolicySpec) fill() {
	setIfZero(&s.RPOThreshold, Duration(15*time.Minute))
	setIfZero(&s.Retention, Duration(24*time.Hour))
	setIfNil(&s.AppConsistentEvery, time.Hour)
	setIfZero(&s.CrashConsistentEvery, Duration(5*time.Second))
}

// Default implements Object.
func (p *ProcessServer) Default() {
	p.fill(KindProcessServer)
	if len(p.Spec.Roles) == 0 {
		p.Spec.Roles = []ProcessServerRole{RoleProtection, RoleReprotection}
	}
	setIfZero(&p.Spec.Listen, ":9443")
	setIfZero(&p.Spec.Spool.MaxBytes, 10<<30)
}

// Default implements Object.
func (m *ProtectedMachine) Default() {
	m.fill(KindProtectedMachine)
	s := &m.Spec
	setIfZero(&s.StopTimeout, Duration(2*time.Minute))
	setIfZero(&s.QueueBytes, 256<<20)
	if s.VM != nil {
		setIfZero(&s.VM.CPUs, 1)
		setIfZero(&s.VM.MemoryMiB, 512)
		setIfZero(&s.VM.Firmware, "bios")
		setIfZero(&s.VM.Cache, "writeback")
	}
	for _, c := range []*ServiceCheck{s.Check, s.Recovery.Check, s.Recovery.TestCheck} {
		if c != nil {
			setIfZero(&c.Timeout, Duration(10*time.Minute))
		}
	}
}

// Default implements Object.
func (p *RecoveryPlan) Default() {
	p.fill(KindRecoveryPlan)
	boots := 0
	for i := range p.Spec.Groups {
		g := &p.Spec.Groups[i]
		switch g.Type {
		case GroupShutdown:
			setIfZero(&g.Name, "shutdown")
		case GroupFailover:
			setIfZero(&g.Name, "failover")
		case GroupBoot:
			boots++
			setIfZero(&g.Name, fmt.Sprintf("boot-%d", boots))
		}
		for _, list := range [][]PlanAction{g.Before, g.After} {
			for j := range list {
				if list[j].Manual != "" {
					setIfZero(&list[j].Timeout, Duration(24*time.Hour))
				}
				setIfZero(&list[j].Timeout, Duration(5*time.Minute))
			}
		}
	}
}
