#!/usr/bin/env bash
# Builds the `agent` that runs on any Linux with glibc 2.17 or later into target/dist, for the architectures named
# (default: x86_64), and refuses one that breaks a promise. zig is the C compiler and the linker that knows old glibcs.
set -euo pipefail
cd "$(dirname "$0")/.."
GLIBC=2.17
ZIG=0.13.0.post1
ZIGBUILD=0.24.0

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
tools=$target/tools/zig-$ZIG-$ZIGBUILD
if [ ! -x "$tools/bin/cargo-zigbuild" ]; then
    echo "Fetching zig $ZIG and cargo-zigbuild $ZIGBUILD into $tools" >&2
    rm -rf "$tools"
    python3 -m venv "$tools.new"
    "$tools.new/bin/pip" install --quiet --disable-pip-version-check "ziglang==$ZIG" "cargo-zigbuild==$ZIGBUILD"
    mv "$tools.new" "$tools"
fi
# Not by its python: a virtual environment that was moved has the old place in its scripts.
PATH=$tools/bin:$PATH
export PATH

# The same bytes wherever it is built: no path of the builder in the binary, and one time for everything.
cargo_home=${CARGO_HOME:-$HOME/.cargo}
sysroot=$(rustc --print sysroot)
export RUSTFLAGS="--remap-path-prefix=$PWD=. --remap-path-prefix=$cargo_home/registry/src=crates --remap-path-prefix=$sysroot=rust"

[ $# -gt 0 ] || set -- x86_64
for arch in "$@"; do
    triple=$arch-unknown-linux-gnu
    echo "Building agent for $triple.$GLIBC" >&2
    CARGO_TARGET_DIR=$target/dist/build cargo zigbuild --quiet --locked --release -p asg-agent --bin agent --target "$triple.$GLIBC"
    mkdir -p "$target/dist/$arch"
    install -m 755 "$target/dist/build/$triple/release/agent" "$target/dist/$arch/agent"
    packaging/gates.sh binary "$target/dist/$arch/agent" "$arch" "$GLIBC"
done
