#!/usr/bin/env bash
# Builds the `agent` that runs on any Linux with glibc 2.17 or later into target/dist, for the architectures named
# (default: x86_64), and refuses one that breaks a promise. zig is the C compiler and the linker that knows old glibcs.
set -euo pipefail
cd "$(dirname "$0")/.."
GLIBC=2.17
ZIG=0.13.0.post1
ZIGBUILD=0.24.0

[ $# -gt 0 ] || set -- x86_64
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
tools=$target/tools/zig-$ZIG-$ZIGBUILD
if [ ! -x "$tools/bin/cargo-zigbuild" ]; then
    echo "Fetching zig $ZIG and cargo-zigbuild $ZIGBUILD into $tools" >&2
    rm -rf "$tools" "$tools.new"
    if ! packaging/deps.sh python3-venv || ! python3 -m venv "$tools.new" ||
        ! "$tools.new/bin/python" -m pip install --quiet --disable-pip-version-check \
            "ziglang==$ZIG" "cargo-zigbuild==$ZIGBUILD"; then
        echo "zig and cargo-zigbuild cannot be had here: no portable binary" >&2
        exit 75 # EX_TEMPFAIL of sysexits.h
    fi
    mv "$tools.new" "$tools"
fi
export PATH="$tools/bin:$PATH"

# A standard library for each target: rustup's where it can be had, else Debian's. All that is built at once is built
# by one compiler.
has_std() { [ -d "$(rustc --print target-libdir --target "$1-unknown-linux-gnu" 2>/dev/null)" ]; }
for arch in "$@"; do
    has_std "$arch" || rustup target add "$arch-unknown-linux-gnu" >&2 || true
    if ! has_std "$arch" || [ -n "${DEBIAN_RUST:-}" ]; then
        RUSTC=$(packaging/debian-rust.sh "$target/tools/debian-rust")
        export RUSTC
        break
    fi
done

# The same bytes wherever it is built: no path of the builder in the binary, and one time for everything.
cargo_home=${CARGO_HOME:-$HOME/.cargo}
sysroot=$("${RUSTC:-rustc}" --print sysroot)
export RUSTFLAGS="--remap-path-prefix=$PWD=. --remap-path-prefix=$cargo_home/registry/src=crates --remap-path-prefix=$sysroot=rust"

for arch in "$@"; do
    triple=$arch-unknown-linux-gnu
    echo "Building agent for $triple.$GLIBC" >&2
    CARGO_TARGET_DIR=$target/dist/build cargo zigbuild --quiet --locked --release -p asg-agent --bin agent --target "$triple.$GLIBC"
    mkdir -p "$target/dist/$arch"
    install -m 755 "$target/dist/build/$triple/release/agent" "$target/dist/$arch/agent"
    packaging/gates.sh binary "$target/dist/$arch/agent" "$arch" "$GLIBC"
    packaging/gates.sh health "$target/dist/$arch/agent" "$arch"
done
