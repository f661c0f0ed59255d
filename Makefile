# What there is to do. Each target sets up what it needs.
.PHONY: build demo test docs bench soak-cadence check deps dist rpm fuzz test-arm64 facts acceptance

build:
	cargo build --release

# About a minute: two targets behind a simulated load balancer, and all four jobs of the agent; the drill's report and a
# picture of it all are left in target/demo. `make demo WATCH=1` begins once `agent watch` is open beside it. Only root may
# make nginx fail, so the demo runs with its rights.
demo:
	packaging/deps.sh nginx curl cc
	cargo build --release --workspace
	$(if $(filter 0,$(shell id -u)),,sudo) env WATCH=$(WATCH) target/release/demo

# Everything that the gate runs. Where zig cannot be had (75) the package is not tested.
test: check
	packaging/deps.sh jq tmux
	packaging/deps.sh --optional mmdebstrap systemd-nspawn nft ip haproxy rpmbuild rpmlint rpmsign gpg systemd-analyze readelf packer
	-packaging/aws-tools.sh
	cargo build --workspace
	packaging/dist.sh $(shell uname -m) || [ $$? -eq 75 ]
	cargo test --workspace
	cargo run --package asg-agent --example fuzz -- 5

# Runs every console block of the documents, and writes what is printed now where it differs.
docs: deps
	packaging/deps.sh jq ip tmux
	cargo build --package asg-agent
	DOCS=write cargo test --package asg-agent-tests --test docs

# The parsers under random input, for longer: make fuzz SECS=600 SEED=7
SECS = 60
SEED = 4
fuzz:
	cargo run --profile fuzz --package asg-agent --example fuzz -- $(SECS) $(SEED)

# Random rhythms, right and broken, by the thousand: make soak-cadence CASES=20000
CASES = 5000
soak-cadence:
	CADENCE_CASES=$(CASES) cargo test --release --package asg-agent --lib -- cadence::random

check: deps
	packaging/deps.sh shellcheck
	cargo fmt --check
	cargo clippy --workspace --all-targets -- -D warnings
	packaging/deny.sh
	shellcheck $$(git ls-files '*.sh' .ci/run)

# Ratios against the real peers in the same run; writes agent/BENCHMARKS.md.
bench: deps
	packaging/deps.sh --optional stress stress-ng goaccess mawk chrt haproxy
	cargo build --release --workspace
	target/release/bench > agent/BENCHMARKS.md.new
	mv agent/BENCHMARKS.md.new agent/BENCHMARKS.md

# The system packages that building and tests need; nothing happens where they are there.
deps:
	packaging/deps.sh nginx curl cc

# The binary for every Linux with glibc 2.17 or later, in target/dist: make dist ARCHS=x86_64
ARCHS ?= x86_64 aarch64
dist:
	packaging/deps.sh curl readelf
	packaging/deps.sh --optional $(if $(filter aarch64,$(ARCHS)),qemu-aarch64-static aarch64-glibc)
	packaging/dist.sh $(ARCHS)

# Packages of that, in target/rpm.
rpm: dist
	packaging/deps.sh rpmbuild
	packaging/deps.sh --optional rpmlint
	rpm/build.sh $(ARCHS)

# The pages of drills in Chromium: three widths, light and dark, printed, and axe-core's rules. It takes a browser and
# axe-core from the npm registry, so it is not part of the gate.
.PHONY: test-pages
AXE = 4.10.3
test-pages:
	packaging/deps.sh nginx chromium npm
	cargo build --workspace
	mkdir -p target/pages
	cd target/pages && npm pack --silent axe-core@$(AXE) && tar -xzf axe-core-$(AXE).tgz package/axe.min.js
	AXE_JS=$(CURDIR)/target/pages/package/axe.min.js cargo test -p asg-agent-tests --test e2e -- --ignored drill::pages watch::page

# The aarch64 package on an arm64 Debian under qemu's user emulation; wants root. Minutes, so not part of the gate.
test-arm64:
	packaging/deps.sh mmdebstrap qemu-aarch64-static ip curl
	$(MAKE) rpm ARCHS=aarch64
	packaging/test-arm64.sh target/rpm/asg-agent-*.aarch64.rpm

# The package on a real machine under QEMU: rebooted and cut off from power in the middle of faults, every flush taken for
# a power cut. Wants root and Debian's packages; not part of the gate. Some of it: make test-vm ONLY="power stop"
.PHONY: test-vm
ONLY =
test-vm:
	packaging/deps.sh nginx curl cc mmdebstrap mkfs.ext4 rpmbuild strip setpriv
	cargo build --workspace
	target/debug/vm $(ONLY)

# What has changed at AWS since packaging/aws/facts.toml was written, by the newest botocore and cfn-lint.
facts:
	packaging/aws/facts.sh

# Proves it in an account of yours, asks first, and leaves nothing: make acceptance REGION=eu-west-1 PROFILE=name
REGION =
acceptance:
	$(MAKE) rpm ARCHS=x86_64
	$(if $(PROFILE),AWS_PROFILE=$(PROFILE)) ./ami-bake.sh acceptance $(if $(REGION),--region $(REGION)) \
		--rpm $$(ls -t target/rpm/asg-agent-*.x86_64.rpm | head -n 1)
