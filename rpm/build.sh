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
    local root=$2 papers=$target/papers/$1
    if [ -x "${PAPERS:-}" ]; then # the tests have built it
        "$PAPERS" "$papers" "$1-unknown-linux-gnu"
    else
        CARGO_TARGET_DIR=$target cargo run --quiet --locked -p asg-agent-papers -- "$papers" "$1-unknown-linux-gnu"
    fi
    put 755 "$target/dist/$1/agent" usr/bin/agent
    put 644 packaging/agent.toml etc/asg-agent/agent.toml
    put 644 packaging/systemd/asg-agent.service usr/lib/systemd/system/asg-agent.service
    put 644 packaging/systemd/asg-agent-recover.service usr/lib/systemd/system/asg-agent-recover.service
    put 644 packaging/systemd/asg-agent-nginx.service usr/lib/systemd/system/asg-agent-nginx.service
    put 644 packaging/systemd/90-asg-agent.preset usr/lib/systemd/system-preset/90-asg-agent.preset
    put 644 packaging/systemd/asg-agent.tmpfiles.conf usr/lib/tmpfiles.d/asg-agent.conf
    put 755 packaging/nginx/nginx-setup.sh usr/libexec/asg-agent/nginx-setup
    local conf
    for conf in packaging/nginx/*.conf; do
        put 644 "$conf" "usr/share/asg-agent/nginx/${conf##*/}"
    done
    local page doc
    for page in "$papers"/man1/*.1; do
        mkdir -p "$root/usr/share/man/man1"
        gzip -9n <"$page" >"$root/usr/share/man/man1/${page##*/}.gz"
    done
    mkdir -p "$root/usr/share/man/man5"
    gzip -9n <"$papers/man5/agent.toml.5" >"$root/usr/share/man/man5/agent.toml.5.gz"
    put 644 "$papers/bash/agent" usr/share/bash-completion/completions/agent
    put 644 "$papers/zsh/_agent" usr/share/zsh/site-functions/_agent
    put 644 "$papers/fish/agent.fish" usr/share/fish/vendor_completions.d/agent.fish
    for doc in README.md CHANGELOG.md "$papers/sbom.cdx.json"; do
        put 644 "$doc" "usr/share/doc/asg-agent/${doc##*/}"
    done
    for doc in LICENSE "$papers/LICENSES.txt"; do
        put 644 "$doc" "usr/share/licenses/asg-agent/${doc##*/}"
    done
    mkdir -p "$root/var/lib/asg-agent/serve" "$root/var/log/asg-agent"
}

pack() { # ARCH INTO
    rpmbuild --quiet -bb --target "$1-linux" --define "version $version" --define "package_release $release" \
        --define "_topdir $work/$1" --define "_sourcedir $work/$1" --define "_rpmdir $work/$1/out" \
        --define "_dbpath $work/db" rpm/asg-agent.spec >"$work/log" 2>&1 || {
        cat "$work/log" >&2
        return 1
    }
    mv "$work/$1/out/$1/asg-agent-$version-$release.$1.rpm" "$2"
}

for arch in "$@"; do
    [ -x "$target/dist/$arch/agent" ] || packaging/dist.sh "$arch"
    package=asg-agent-$version-$release.$arch.rpm
    mkdir -p "$work/$arch/root"
    stage "$arch" "$work/$arch/root"
    pack "$arch" "$work/$package"
    pack "$arch" "$work/again"
    packaging/gates.sh rpm "$work/$package" "$work/again"
    mv "$work/$package" "$target/rpm/$package"
    echo "$target/rpm/$package"
done
