package install

import "fmt"

// unit is the agent's for systemd.
//
// Engines and guests stay in the unit's control group when the agent is stopped, restarted or upgraded (KillMode), and one of them that
// runs out of memory does not take the others along (OOMPolicy). What is not hardened, is not because the agent and its
// engines need it: every network and disk of the host, /dev/kvm and tun, hooks of the operator's, and a hypervisor that
// translates code.
func unit(l Layout) string {
	return fmt.Sprintf(`[Unit]
Description=Understudy agent
Documentation=https://github.com/understudy-ha/understudy
Wants=network-online.target
After=network-online.target local-fs.target time-sync.target
StartLimitIntervalSec=0

[Service]
Type=exec
EnvironmentFile=%s
ExecStart=%s
Restart=always
RestartSec=1
KillMode=process
Delegate=yes
OOMPolicy=continue
TimeoutStopSec=30
TasksMax=infinity
LimitNOFILE=1048576
UMask=0077
NoNewPrivileges=yes
LockPersonality=yes
ProtectHostname=yes
ProtectKernelLogs=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_PACKET AF_VSOCK

[Install]
WantedBy=multi-user.target
`, l.Env, l.command())
}

// command starts the agent, with the environment of env.
func (l Layout) command() string {
	return fmt.Sprintf("%s agent --dir %s --token-file %s $UNDERSTUDY_AGENT_ARGS", l.Bin, l.Dir, l.Token)
}

// env is the file with the agent's settings, for systemd and the shell alike. It is read again at each start.
func env(s Settings) string {
	return fmt.Sprintf("# Flags of `understudy agent`; \"understudy agent install\" keeps those it is not given.\nUNDERSTUDY_AGENT_ARGS=\"%s\"\n", s.args())
}
