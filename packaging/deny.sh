#!/usr/bin/env bash
# Licences, bans, sources and advisories of all crates. Advisories need a database from the network: where it can't be
# had that is said, and the rest is checked.
set -euo pipefail
VERSION=0.20.2
tools=${CARGO_TARGET_DIR:-target}/tools
if ! command -v cargo-deny >/dev/null 2>&1; then
    if [ ! -x "$tools/bin/cargo-deny" ]; then
        echo "Building cargo-deny $VERSION into $tools (some minutes, once)" >&2
        cargo install --quiet --locked --root "$tools" --target-dir "$tools/build" "cargo-deny@$VERSION"
        rm -rf "$tools/build"
    fi
    PATH=$(realpath "$tools")/bin:$PATH
fi
cargo deny check licenses bans sources
if cargo deny fetch db >/dev/null 2>&1; then
    cargo deny check advisories
else
    echo "No advisory database can be had here: advisories were not checked" >&2
fi
