//! `netd completions`, `netd man`: made from the command line's own definition.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::{Arg, Command, CommandFactory};
use clap_complete::Shell;
use serde::Serialize;

use super::Context;
use super::args::Invocation;
use super::output;
use crate::error::Error;

pub(super) fn completions(context: &Context, shell: Shell) -> Result<ExitCode, Error> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Invocation::command(), "netd", &mut script);
    print(context, String::from_utf8_lossy(&script).into_owned())
}

pub(super) fn man(context: &Context) -> Result<ExitCode, Error> {
    print(context, page()?)
}

fn print(context: &Context, text: String) -> Result<ExitCode, Error> {
    #[derive(Serialize)]
    struct Document {
        text: String,
    }
    if context.json {
        output::print_json(&Document { text })?;
    } else {
        output::print(&text)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// netd(8): one page with every command, so that it can be searched.
fn page() -> Result<String, Error> {
    let mut command = Invocation::command();
    command.build();
    let man = clap_mangen::Man::new(command.clone())
        .section("8")
        .manual("netd");
    let mut page = Vec::new();
    man.render_title(&mut page)
        .and_then(|()| man.render_name_section(&mut page))
        .map_err(Error::Output)?;
    let mut text = String::from_utf8_lossy(&page).into_owned();
    text.push_str(".SH SYNOPSIS\n.B netd\n[OPTIONS] COMMAND …\n");
    text.push_str(
        ".SH DESCRIPTION\n\
         netd gives every container on a host its own network namespace, its own isolated port on a \
         zone, an address, NAT, and a firewall policy from a text file that is in force before the \
         first packet.\n",
    );
    text.push_str(".SH OPTIONS\nOf every command.\n");
    for option in command.get_arguments().filter(|a| is_global(a)) {
        describe(&mut text, option);
    }
    text.push_str(".SH COMMANDS\n");
    for sub in command.get_subcommands() {
        commands(&mut text, sub);
    }
    text.push_str(ENDING);
    // troff itself reads no UTF-8.
    Ok(text.replace('…', "..."))
}

fn is_global(arg: &Arg) -> bool {
    arg.is_global_set() && !arg.is_hide_set()
}

/// A command and those below it, depth first; those with commands below only through these.
fn commands(text: &mut String, command: &Command) {
    if command.is_hide_set() || command.get_name() == "help" {
        return;
    }
    if command.has_subcommands() {
        for sub in command.get_subcommands() {
            commands(text, sub);
        }
        return;
    }
    let _ = writeln!(text, ".SS {}", roff(&usage(command)));
    let about = command.get_long_about().or(command.get_about());
    if let Some(about) = about {
        let _ = writeln!(text, "{}", roff(&about.to_string()));
    }
    let own = command
        .get_arguments()
        .filter(|a| !a.is_global_set() && !a.is_hide_set() && a.get_id() != "help");
    for arg in own {
        describe(text, arg);
    }
    if let Some(after) = command.get_after_help() {
        let _ = writeln!(text, ".PP\n.nf\n{}\n.fi", roff(&after.to_string()));
    }
}

/// `netd zone show [OPTIONS] NAME`
fn usage(command: &Command) -> String {
    let usage = command.clone().render_usage().to_string();
    let usage = usage.strip_prefix("Usage: ").unwrap_or(&usage);
    // clap sets off placeholders by angle brackets, manual pages by their letters alone.
    usage.replace(['<', '>'], "")
}

fn values(arg: &Arg) -> String {
    let names = arg.get_value_names().unwrap_or_default();
    let names: Vec<&str> = names.iter().map(|n| n.as_str()).collect();
    let dots = if arg.is_positional() && arg.get_num_args().is_some_and(|n| n.max_values() > 1) {
        "..."
    } else {
        ""
    };
    format!("{}{dots}", names.join(" "))
}

/// An option or argument as a tagged paragraph.
fn describe(text: &mut String, arg: &Arg) {
    let mut names = Vec::new();
    names.extend(arg.get_short().map(|c| format!("-{c}")));
    names.extend(arg.get_long().map(|l| format!("--{l}")));
    let takes = arg.get_action().takes_values();
    let optional = arg.get_num_args().is_some_and(|n| n.min_values() == 0);
    let tag = match (names.is_empty(), takes) {
        (true, _) => values(arg),
        (false, true) if optional => format!("{}[={}]", names.join(", "), values(arg)),
        (false, true) => format!("{} {}", names.join(", "), values(arg)),
        (false, false) => names.join(", "),
    };
    let _ = writeln!(text, ".TP\n\\fB{}\\fR", roff(&tag));
    if let Some(help) = arg.get_help() {
        let _ = writeln!(text, "{}.", roff(&help.to_string()));
    }
    let mut more = Vec::new();
    if let Some(env) = arg.get_env() {
        more.push(format!("Also as {}.", env.to_string_lossy()));
    }
    if takes && let [default] = arg.get_default_values() {
        more.push(format!("Default: {}.", default.to_string_lossy()));
    }
    let possible: Vec<String> = arg
        .get_possible_values()
        .iter()
        .filter(|_| takes && !arg.is_hide_possible_values_set())
        .filter(|v| !v.is_hide_set())
        .map(|v| match v.get_help() {
            Some(help) => format!("{} ({help})", v.get_name()),
            None => v.get_name().to_owned(),
        })
        .collect();
    if !possible.is_empty() {
        more.push(format!("One of: {}.", possible.join("; ")));
    }
    if !more.is_empty() {
        let _ = writeln!(text, "{}", roff(&more.join(" ")));
    }
}

/// Text as roff has it: backslashes and minus signs escaped, no line that begins with a request.
fn roff(text: &str) -> String {
    let escaped = text.replace('\\', "\\e").replace('-', "\\-");
    let lines: Vec<String> = escaped
        .lines()
        .map(|line| match line.as_bytes().first() {
            Some(b'.' | b'\'') => format!("\\&{line}"),
            _ => line.to_owned(),
        })
        .collect();
    lines.join("\n")
}

const ENDING: &str = "\
.SH EXIT STATUS
.TP
0
Done.
.TP
1
Refused or failed.
.TP
2
Wrong usage.
.TP
3
No such zone or container.
.TP
4
The daemon cannot be reached.
.PP
\\fBnetd explain\\fR: 0 allow, 10 deny.
\\fBnetd run\\fR: that of the command.
.SH ENVIRONMENT
.TP
\\fBNETD_CONFIG_DIR\\fR, \\fBNETD_STATE_DIR\\fR, \\fBNETD_RUNTIME_DIR\\fR
The directories, as the options of the same names.
.TP
\\fBNETD_AUTOSTART\\fR
With 0, a command that needs the daemon and finds none fails instead of starting one.
.TP
\\fBNETD_LOG\\fR
What the daemon logs: error, warn, info, debug, or trace.
.SH FILES
.TP
\\fI/etc/netd/zones/*.toml\\fR
Zones, one file each.
.TP
\\fI/etc/netd/policies/*.toml\\fR
Policies.
.TP
\\fI/var/lib/netd/decisions.jsonl\\fR
What rules that log and files on trial recorded.
.TP
\\fI/run/netd/netd.sock\\fR
The control socket: varlink, interface io.netd.Control.
.TP
\\fI/run/netd/netd.log\\fR
Log of a daemon that was started in the background.
";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_page_has_every_command_and_no_hidden_one() {
        let page = page().unwrap();
        for words in [
            "netd zone create [OPTIONS] NAME",
            "netd run",
            "netd hook oci",
            "netd hook cni",
            "network\\-zone",
        ] {
            assert!(
                page.contains(&roff(words)) || page.contains(words),
                "{words}"
            );
        }
        for words in ["netd keep", "\\-\\-background", "netd help"] {
            assert!(!page.contains(words), "{words}");
        }
    }

    #[test]
    fn text_does_not_become_a_request() {
        assert_eq!(roff(".SH x\n-a \\b\n'c"), "\\&.SH x\n\\-a \\eb\n\\&'c");
    }
}
