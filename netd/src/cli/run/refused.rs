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

fn selinux(text: &str) -> Result<String, ValueError> {
    refuse(
        text,
        "is refused: netd sets no SELinux labels; set them by a policy for netd's domain",
    )
}
