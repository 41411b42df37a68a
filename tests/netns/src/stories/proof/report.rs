//! docs/proof.md: what a long run asked, and what came of it.

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::tally::Tally;

/// Writes the report of a run without disagreement.
pub fn write(path: &Path, tally: &Tally, seeds: Range<u64>, took: Duration) {
    let said = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).output();
        let output = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        output.unwrap_or_else(|error| panic!("{program}: {error}"))
    };
    let text = format!(
        "{HEAD}\n## The last run\n\n\
         | | |\n| --- | --- |\n\
         | date | {} |\n| kernel | {} |\n| nftables | {} |\n| worlds | {} |\n| seeds | {} to {} |\n\
         | probes | {} |\n| disagreements | 0 |\n| took | {} s |\n\n{}",
        said("date", &["-u", "+%Y-%m-%d"]),
        said("uname", &["-srm"]),
        said("nft", &["--version"]),
        tally.worlds,
        seeds.start,
        seeds.end - 1,
        tally.probes(),
        took.as_secs(),
        tally.tables()
    );
    fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

const HEAD: &str = "\
# Proof

What a policy file says must be what packets meet. `make proof` draws worlds of chance from seeds: two or three zones with
every default, internal or not, with private, global or no IPv6; four to seven containers with labels and published ports;
policy files with every kind of peer and port. It makes each of them for real, with a daemon, attached containers and a
world outside, and asks for every pair, family and boundary of the ports in the rules, directly and through published ports:

- **packets**: a probe from the one namespace to the other. Sockets that see every packet delivered, in every namespace, tell
  that not one packet of a denied probe arrived anywhere, that an allowed one arrived where it should, and was answered by
  the right one, who saw the true source;
- **explain**: `netd explain`, asked over the control socket;
- **oracle**: the naive reading of the same files (`firewall/src/oracle.rs`), which shares no code with the compiler.

In every second world something happens: files are written and removed, containers come, go and change their labels, defaults
change, the daemon is killed. After each event a sample is asked again; open TCP connections and UDP flows that
the new policy denies must be dead in both directions, those it allowed and allows must live.

A disagreement ends the run with the smallest world that has it: zones, commands, files, the flow, and the three answers. A run
in which some path saw nothing allowed or nothing denied fails, and so does one in which a socket lost a packet. A control
(`proof::a_lie_is_found_and_made_small`) lets the oracle overlook denies and must be caught.

```sh
make proof                                             # 100,000 probes; writes this page
make stories STORY=proof                               # 5,000, as CI does
make stories STORY=proof::worlds NETD_PROOF_SEED=17    # the worlds from seed 17 on
```
";
