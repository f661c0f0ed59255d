#!/usr/bin/env bash
# A Rust compiler with the standard libraries of x86_64 and aarch64, out of Debian's packages and beside the one that
# is installed, for machines where rustup can fetch no target. Prints the compiler to use as RUSTC.
#     debian-rust.sh FOLDER
set -euo pipefail
into=$(realpath -m "$1")
if [ -x "$into/rustc" ]; then
    echo "$into/rustc"
    exit 0
fi
command -v apt-get >/dev/null || {
    echo "Neither rustup nor apt-get can bring a standard library for aarch64 here" >&2
    exit 1
}
as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo -n)
rm -rf "$into"
mkdir -p "$into/apt/state/lists/partial" "$into/apt/cache/archives/partial" "$into/packages" "$into/root"
# Both architectures, and none of the machine's own state: what is installed here doesn't matter.
: >"$into/apt/status"
cat >"$into/apt/conf" <<END
APT::Architecture "amd64";
APT::Architectures { "amd64"; "arm64"; };
Dir::State "$into/apt/state";
Dir::State::status "$into/apt/status";
Dir::Cache "$into/apt/cache";
APT::Sandbox::User "root";
END
export APT_CONFIG=$into/apt/conf
apt-get update -qq >&2
version=$(apt-cache pkgnames libstd-rust-web- | sed -n 's/^libstd-rust-web-\([0-9.]*\)$/\1/p' | sort -V | tail -n 1)
[ -n "$version" ] || {
    echo "Debian's packages here have no rustc-web" >&2
    exit 1
}
echo "Fetching Debian's rustc-web with libstd-rust-web-$version for amd64 and arm64 into $into" >&2
(cd "$into/packages" && apt-get download -qq rustc-web:amd64 "libstd-rust-web-$version:amd64" \
    "libstd-rust-web-$version:arm64" libstd-rust-web-dev:amd64 libstd-rust-web-dev:arm64 >&2)
for package in "$into"/packages/*.deb; do
    dpkg -x "$package" "$into/root"
done
llvm=$(apt-cache depends "libstd-rust-web-$version:amd64" | sed -n 's/.*Depends: \(libllvm[0-9]*\).*/\1/p' | head -n 1)
unset APT_CONFIG
if [ -n "$llvm" ] && ! dpkg -s "$llvm" >/dev/null 2>&1; then
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$llvm" >&2
fi
cat >"$into/rustc.new" <<END
#!/bin/sh
LD_LIBRARY_PATH=$into/root/usr/lib/x86_64-linux-gnu\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}
export LD_LIBRARY_PATH
exec $into/root/usr/bin/rustc "\$@"
END
chmod +x "$into/rustc.new"
"$into/rustc.new" --version >&2
rm -rf "$into/apt" "$into/packages"
mv "$into/rustc.new" "$into/rustc"
echo "$into/rustc"
