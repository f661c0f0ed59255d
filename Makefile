# What there is to do. Each target sets up what it needs.
.PHONY: build demo test bench check deps

build:
	cargo build --release

# About a minute: two targets behind a simulated load balancer, and all four jobs of the agent; the drill's report is
# left in target/demo. Only root may make nginx fail, so the demo runs with its rights.
demo: deps
	cargo build --release --workspace
	$(if $(filter 0,$(shell id -u)),,sudo) target/release/demo

# Everything that the gate runs.
test: check
	packaging/deps.sh --optional mmdebstrap systemd-nspawn nft ip haproxy
	cargo build --workspace
	cargo test --workspace

check: deps
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

# The system packages that tests and demo need; nothing happens where they are there.
deps:
	packaging/deps.sh nginx shellcheck curl
