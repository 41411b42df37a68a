//! `netd hook …`: the doors, as the command line has them.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};

/// `netd hook …`
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub(crate) enum HookCommand {
    /// For OCI runtimes: createRuntime or prestart attaches, poststop detaches
    ///
    /// Reads the container's state from standard input and attaches or detaches by its status.
    /// Also reached as `netd-oci-hook`.
    #[command(after_help = "\
Annotations of the container:
  io.netd.zone         the zone (required)
  io.netd.name         the container's name; its id where missing
  io.netd.labels       KEY=VALUE,KEY=VALUE…
  io.netd.publish      [ADDR:]HOSTPORT[-END]:PORT[/udp],…
  io.netd.ip           wanted addresses
  io.netd.mac          wanted hardware address
  io.netd.configure    static, dhcp or none
  io.netd.ifname       name of the interface inside
  io.netd.bandwidth    100mbit, or ingress=100mbit egress=20mbit burst=256kb
  io.netd.resolv-conf  auto, off or replace: as netd attach --resolv-conf=

Example, in the config.json of a bundle:
  \"hooks\": {
    \"createRuntime\": [{ \"path\": \"/usr/bin/netd\", \"args\": [\"netd\", \"hook\", \"oci\"] }],
    \"poststop\":      [{ \"path\": \"/usr/bin/netd\", \"args\": [\"netd\", \"hook\", \"oci\"] }]
  }")]
    Oci {
        /// What to do, whatever the status says
        action: Option<HookAction>,
    },
    /// Interfaces that `netd run` was asked for beside zones (it calls this)
    #[command(hide = true)]
    Link {
        /// Make them, or clear up
        action: HookAction,
    },
    /// Has systemd-machined know a container of `netd run` (it calls this)
    #[command(hide = true)]
    Machined {
        /// Register, or take back
        action: HookAction,
        /// The container's root
        #[arg(long)]
        root: Option<PathBuf>,
        /// What goes wrong is a failure
        #[arg(long)]
        must: bool,
    },
    /// For podman: a plugin of netavark, as a driver of networks
    ///
    /// Reads what netavark tells its plugins from standard input; answers, and errors as an object with
    /// `error`, are JSON on standard output. Also reached as `netd-netavark`, and by any name in a folder
    /// called `netavark`: there a link called netd is the driver netd.
    #[command(after_help = "\
Options of the network, as podman network create -d netd -o KEY=VALUE NAME has them:
  zone       the zone; one of the network's name where missing
  labels     KEY=VALUE,KEY=VALUE… of each container
  bandwidth  100mbit, or ingress=100mbit,egress=20mbit, of each container
  mtu        of the zone, where it is made")]
    Netavark {
        #[command(subcommand)]
        call: NetavarkCall,
    },
    /// For Kubernetes, containerd, CRI-O, podman and others: a CNI plugin
    ///
    /// Does what the variable CNI_COMMAND says: ADD, DEL, CHECK, GC, STATUS or VERSION, with the network's
    /// configuration on standard input; result and errors are JSON on standard output. Also reached as `netd-cni`, and
    /// by any name without arguments where CNI_COMMAND is set: a link /opt/cni/bin/netd to the binary is a plugin of
    /// type netd.
    #[command(after_help = "\
Configuration, in a file of /etc/cni/net.d such as 10-netd.conflist:
  {
    \"cniVersion\": \"1.0.0\",
    \"name\": \"web\",
    \"plugins\": [{
      \"type\": \"netd\",
      \"zone\": \"web\",
      \"capabilities\": { \"portMappings\": true, \"ips\": true, \"mac\": true, \"aliases\": true }
    }]
  }

Keys: zone (required), labels { KEY: VALUE }, publish [ [ADDR:]HOSTPORT[-END]:PORT[/udp] ],
namespaces (true: containers are named POD.NAMESPACE), dns, configDir, stateDir, runtimeDir.
The container's name is K8S_POD_NAME of CNI_ARGS, or its id.")]
    Cni,
    /// For systemd-nspawn@.service: a zone for machines whose .nspawn file names one
    ///
    /// The drop-in systemd-nspawn@.service.d/50-netd.conf calls it. Zone=, Bridge=vz-…, Port= and Private= of the
    /// machine's settings are read; a machine that names no zone starts as without netd.
    #[command(subcommand)]
    Nspawn(NspawnCommand),
}

/// `netd hook nspawn …`
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub(crate) enum NspawnCommand {
    /// Make the machine's network namespace and attach it (ExecStartPre=)
    Prepare {
        /// The machine
        machine: String,
    },
    /// Become the command, in that namespace (ExecStart=)
    Exec {
        /// The machine
        machine: String,
        /// systemd-nspawn and its options
        #[arg(last = true, required = true)]
        command: Vec<std::ffi::OsString>,
    },
    /// Detach the machine and remove its namespace (ExecStopPost=)
    Remove {
        /// The machine
        machine: String,
    },
}

/// What netavark asks of a plugin.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub(crate) enum NetavarkCall {
    /// Fit a network to its zone, which is made with the defaults where missing
    Create,
    /// Attach a container
    Setup {
        /// Its network namespace
        netns: PathBuf,
    },
    /// Detach it
    Teardown {
        /// Its network namespace
        netns: PathBuf,
    },
    /// Tell the versions
    Info,
}

/// What a hook does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum HookAction {
    /// Attach the container
    Attach,
    /// Detach the container
    Detach,
}
