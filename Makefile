# What people and CI call. Each target installs what it lacks on Debian and Ubuntu (as root), see .ci/setup.

CARGO  ?= cargo
PREFIX ?= /usr/local
BINDIR  = $(PREFIX)/bin
# Where podman and CRI-O look for hooks: /usr/local is no such place.
HOOKSDIR ?= $(if $(filter /usr,$(PREFIX)),/usr/share,/etc)/containers/oci/hooks.d
# Where podman looks for drivers of networks.
NETAVARKDIR ?= $(PREFIX)/libexec/netavark
# Where container runtimes look for CNI plugins
CNIDIR ?= /opt/cni/bin
NETD    = target/release/netd

.PHONY: help build test static unit stories proof demo bench install install-files uninstall clean

help:
	@echo "make test     formatting, lints, licences, documentation, unit tests, stories with real packets"
	@echo "make proof    100,000 probes in worlds of chance: packets, explain and oracle must agree; writes docs/proof.md"
	@echo "make demo     netd shown in a namespace of its own: zones, containers, verdicts, a live edit"
	@echo "make bench    netd beside its floor and its peers"
	@echo "make build    the optimised binary, $(NETD)"
	@echo "make install  binary, manual page, completions, unit, files of the doors (DESTDIR=, PREFIX=$(PREFIX), CNIDIR=$(CNIDIR))"
	@echo "make static, unit, stories: the parts of make test; make stories STORY=tamper runs some"

build:
	.ci/setup build
	$(CARGO) build --release --locked --package netd

test: static unit stories

# Everything that can be said without running it; the quick ones first.
static:
	.ci/setup test
	.ci/sizes
	$(CARGO) fmt --all --check
	.ci/purity
	.ci/deny
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --document-private-items

# Tests with a kernel wait more than they compute: two on each core.
unit:
	.ci/setup test
	RUST_TEST_THREADS=$$((2 * $$(nproc))) $(CARGO) test --locked --workspace --exclude stories

# The whole workspace each time, and netd beside the test that uses it: with fewer packages, or without their tests,
# cargo picks other features, and builds all again.
# STORY: part of a name. NETD_KEEP=1 keeps the host of a story that fails, NETD_TALK=1 shows what they say.
stories:
	.ci/setup test
	$(CARGO) build --locked --workspace --bin netd --test stories
	$(CARGO) test --locked --workspace --test stories -- $(STORY)

# PROBES and SEED choose how many, and where to begin.
PROBES ?= 100000
SEED   ?= 1000
proof:
	.ci/setup test
	$(CARGO) build --locked --workspace --bin netd --test stories
	NETD_PROOF_PROBES=$(PROBES) NETD_PROOF_SEED=$(SEED) NETD_PROOF_REPORT=$(CURDIR)/docs/proof.md NETD_LONGEST=7200 \
	  $(CARGO) test --locked --workspace --test stories -- proof::worlds

demo:
	.ci/setup demo
	$(CARGO) build --locked --workspace --bin netd
	tests/demo target/debug/netd

bench:
	.ci/setup test
	$(CARGO) build --release --locked --package netd --package bench
	target/release/bench setup
	target/release/bench

install: build install-files

# The same with a binary that is there already, NETD=.
install-files:
	install -D -m 755 $(NETD) $(DESTDIR)$(BINDIR)/netd
	install -d $(DESTDIR)$(PREFIX)/share/man/man8 $(DESTDIR)$(PREFIX)/share/bash-completion/completions \
	  $(DESTDIR)$(PREFIX)/share/zsh/site-functions $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d \
	  $(DESTDIR)$(PREFIX)/lib/systemd/system $(DESTDIR)$(PREFIX)/lib/systemd/network
	$(NETD) man >$(DESTDIR)$(PREFIX)/share/man/man8/netd.8
	$(NETD) completions bash >$(DESTDIR)$(PREFIX)/share/bash-completion/completions/netd
	$(NETD) completions zsh >$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_netd
	$(NETD) completions fish >$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/netd.fish
	sed 's|@BINDIR@|$(BINDIR)|' dist/netd.service >$(DESTDIR)$(PREFIX)/lib/systemd/system/netd.service
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system/systemd-nspawn@.service.d
	sed 's|@BINDIR@|$(BINDIR)|' dist/systemd-nspawn@.service.conf \
	  >$(DESTDIR)$(PREFIX)/lib/systemd/system/systemd-nspawn@.service.d/50-netd.conf
	install -d $(DESTDIR)$(PREFIX)/share/netd/schema
	install -m 644 docs/schema/*.toml.json $(DESTDIR)$(PREFIX)/share/netd/schema
	install -m 644 dist/70-netd.network $(DESTDIR)$(PREFIX)/lib/systemd/network/
	install -d $(DESTDIR)$(HOOKSDIR) $(DESTDIR)$(NETAVARKDIR)
	sed 's|@BINDIR@|$(BINDIR)|' dist/70-netd.json >$(DESTDIR)$(HOOKSDIR)/70-netd.json
	ln -sf $(BINDIR)/netd $(DESTDIR)$(NETAVARKDIR)/netd

	install -d $(DESTDIR)$(CNIDIR) $(DESTDIR)$(PREFIX)/share/netd/cni
	ln -sf $(BINDIR)/netd $(DESTDIR)$(CNIDIR)/netd
	ln -sf $(BINDIR)/netd $(DESTDIR)$(CNIDIR)/netd-policy
	install -m 644 dist/10-netd.conflist dist/20-netd-policy.conflist $(DESTDIR)$(PREFIX)/share/netd/cni/

uninstall:
	rm -f $(DESTDIR)$(HOOKSDIR)/70-netd.json $(DESTDIR)$(NETAVARKDIR)/netd
	rm -f $(DESTDIR)$(CNIDIR)/netd $(DESTDIR)$(CNIDIR)/netd-policy
	rm -f $(DESTDIR)$(PREFIX)/share/netd/cni/10-netd.conflist $(DESTDIR)$(PREFIX)/share/netd/cni/20-netd-policy.conflist
	rm -f $(DESTDIR)$(PREFIX)/share/netd/schema/policy.toml.json $(DESTDIR)$(PREFIX)/share/netd/schema/groups.toml.json
	rm -f $(DESTDIR)$(BINDIR)/netd $(DESTDIR)$(PREFIX)/share/man/man8/netd.8 \
	  $(DESTDIR)$(PREFIX)/share/bash-completion/completions/netd $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_netd \
	  $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/netd.fish \
	  $(DESTDIR)$(PREFIX)/lib/systemd/system/systemd-nspawn@.service.d/50-netd.conf \
	  $(DESTDIR)$(PREFIX)/lib/systemd/system/netd.service $(DESTDIR)$(PREFIX)/lib/systemd/network/70-netd.network

clean:
	$(CARGO) clean
