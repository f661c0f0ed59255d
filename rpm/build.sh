#!/usr/bin/env bash
# Packs what packaging/dist.sh has built into target/rpm/asg-agent-VERSION-RELEASE.ARCH.rpm, for the architectures named
# (default: x86_64), and refuses one that breaks a promise. The same sources give the same bytes.
set -euo pipefail
cd "$(dirname "$0")/.."
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
release=${RELEASE:-1}
# The time of the newest change, so that a package says when its sources were made, not when it was built.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y Cargo.lock)}
export SOURCE_DATE_EPOCH

[ $# -gt 0 ] || set -- x86_64
mkdir -p "$target/rpm"
work=$(mktemp -d "$target/rpm/.work.XXXXXX")
trap 'rm -rf "$work"' EXIT

# What goes where.
stage() { # ARCH ROOT
    put() { install -D -m "$1" "$2" "$root/$3"; } # MODE FROM TO
    local root=$2
    put 755 "$target/dist/$1/agent" usr/bin/agent
    put 644 packaging/agent.toml etc/asg-agent/agent.toml
    put 644 packaging/systemd/asg-agent.service usr/lib/systemd/system/asg-agent.service
    put 644 packaging/systemd/asg-agent-recover.service usr/lib/systemd/system/asg-agent-recover.service
    put 644 packaging/systemd/90-asg-agent.preset usr/lib/systemd/system-preset/90-asg-agent.preset
    put 644 packaging/systemd/asg-agent.tmpfiles.conf usr/lib/tmpfiles.d/asg-agent.conf
    put 755 packaging/nginx/nginx-setup.sh usr/libexec/asg-agent/nginx-setup
    local conf
    for conf in packaging/nginx/*.conf; do
        put 644 "$conf" "usr/share/asg-agent/nginx/${conf##*/}"
    done
    local doc
    for doc in README.md CHANGELOG.md LICENSE; do
        put 644 "$doc" "usr/share/doc/asg-agent/$doc"
    done
    mkdir -p "$root/var/lib/asg-agent/serve" "$root/var/log/asg-agent"
}

for arch in "$@"; do
    [ -x "$target/dist/$arch/agent" ] || packaging/dist.sh "$arch"
    mkdir -p "$work/$arch/root"
    stage "$arch" "$work/$arch/root"
    rpmbuild --quiet -bb --target "$arch-linux" --define "version $version" --define "package_release $release" \
        --define "_topdir $work/$arch" --define "_sourcedir $work/$arch" --define "_rpmdir $work/$arch/out" \
        --define "_dbpath $work/db" rpm/asg-agent.spec
    package=asg-agent-$version-$release.$arch.rpm
    mv "$work/$arch/out/$arch/$package" "$target/rpm/$package"
    packaging/gates.sh rpm "$target/rpm/$package"
    echo "$target/rpm/$package"
done
