//! Options of systemd-nspawn that netd does not have, each with the reason.

use clap::Args;

use crate::values::ValueError;

/// Hidden: none of them can be given.
#[derive(Debug, Clone, Default, PartialEq, Args)]
pub(crate) struct RefusedArgs {
    #[arg(long, hide = true, value_parser = verity)]
    pub(crate) root_hash: Option<String>,
    #[arg(long, hide = true, value_parser = verity)]
    pub(crate) root_hash_sig: Option<String>,
    #[arg(long, hide = true, value_parser = verity)]
    pub(crate) verity_data: Option<String>,
    #[arg(long, hide = true, value_parser = pivot_root)]
    pub(crate) pivot_root: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "yes", value_parser = share_system)]
    pub(crate) share_system: Option<String>,
    #[arg(long, hide = true, value_parser = background)]
    pub(crate) background: Option<String>,
    #[arg(long, hide = true, value_parser = image_policy)]
    pub(crate) image_policy: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "yes", value_parser = cleanup)]
    pub(crate) cleanup: Option<String>,
    #[arg(long, hide = true, value_parser = delegate)]
    pub(crate) private_users_delegate: Option<String>,
    #[arg(long, hide = true, value_parser = families)]
    pub(crate) restrict_address_families: Option<String>,
    #[arg(long, hide = true, value_parser = journal)]
    pub(crate) forward_journal: Option<String>,
    #[arg(short = 'Z', long, hide = true, value_parser = selinux)]
    pub(crate) selinux_context: Option<String>,
    #[arg(short = 'L', long, hide = true, value_parser = selinux)]
    pub(crate) selinux_apifs_context: Option<String>,
}

fn refuse(text: &str, reason: &str) -> Result<String, ValueError> {
    Err(ValueError::new(text, reason))
}

fn verity(text: &str) -> Result<String, ValueError> {
    refuse(text, "is refused: netd sets up no dm-verity device")
}

fn pivot_root(text: &str) -> Result<String, ValueError> {
    refuse(
        text,
        "is refused: give the directory that is to be the root by --directory=",
    )
}

fn share_system(text: &str) -> Result<String, ValueError> {
    refuse(
        text,
        "is refused: a container has namespaces of its own (for a program with a network of its own alone there is --no-root)",
    )
}

/// An empty one leaves the terminal's colours alone, and so does netd always.
fn background(text: &str) -> Result<String, ValueError> {
    match text {
        "" => Ok(String::new()),
        _ => refuse(text, "is refused: netd colours no terminal"),
    }
}

fn image_policy(text: &str) -> Result<String, ValueError> {
    refuse(
        text,
        "is refused: netd mounts plain partitions only, by their types",
    )
}

fn cleanup(text: &str) -> Result<String, ValueError> {
    refuse(
        text,
        "is refused: nothing is left behind that would have to be cleaned up",
    )
}

fn delegate(text: &str) -> Result<String, ValueError> {
    refuse(
        text,
        "is refused: a container has one range of users, and makes no user namespaces of its own",
    )
}

fn families(text: &str) -> Result<String, ValueError> {
    refuse(
        text,
        "is refused: which addresses are reached is what policies say; system calls are taken away by --system-call-filter=~NAME",
    )
}

fn journal(text: &str) -> Result<String, ValueError> {
    refuse(text, "is refused: netd passes no journal on")
}

fn selinux(text: &str) -> Result<String, ValueError> {
    refuse(
        text,
        "is refused: netd sets no SELinux labels; set them by a policy for netd's domain",
    )
}
