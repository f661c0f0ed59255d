#!/usr/bin/env bash
# Installs the commands named (as packages of the distribution) that are missing, or says what to install. With
# --optional first, the work goes on without them: what needs them says so and is left out.
set -euo pipefail

failed=1
if [ "${1:-}" = --optional ]; then
    failed=0
    shift
fi

# The package that brings a command, where its name differs.
package() {
    case "$1:$2" in
        nginx:apt-get) echo nginx-light ;;
        nginx:*) echo nginx ;;
        ip:apt-get) echo iproute2 ;;
        ip:*) echo iproute ;;
        systemd-nspawn:*) echo systemd-container ;;
        nft:*) echo nftables ;;
        rpmbuild:apt-get) echo rpm ;;
        rpmbuild:*) echo rpm-build ;;
        rpmsign:apt-get) echo rpm ;;
        rpmsign:*) echo rpm-sign ;;
        readelf:* | strip:*) echo binutils ;;
        gpg:*) echo gnupg ;;
        systemd-analyze:*) echo systemd ;;
        rpmlint:apt-get) echo rpmlint python3-rpm ;;
        python3-venv:dnf | python3-venv:yum) echo python3-pip ;;
        qemu-aarch64-static:*) echo qemu-user-static ;;
        aarch64-glibc:*) echo libc6-dev-arm64-cross ;;
        chrt:* | setpriv:*) echo util-linux ;;
        mkfs.ext4:*) echo e2fsprogs ;;
        shellcheck:dnf | shellcheck:yum) echo ShellCheck ;;
        cc:apt-get) echo gcc libc6-dev ;;
        cc:*) echo gcc ;;
        *) echo "$1" ;;
    esac
}

# nginx lies in sbin, which isn't on everybody's path.
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
# Two names stand for what is no command.
is_there() {
    case $1 in
        python3-venv) python3 -c 'import ensurepip' >/dev/null 2>&1 ;;
        aarch64-glibc) [ -e /usr/aarch64-linux-gnu/lib/ld-linux-aarch64.so.1 ] ;;
        *) command -v "$1" >/dev/null 2>&1 ;;
    esac
}
missing=()
for command in "$@"; do
    is_there "$command" || missing+=("$command")
done
[ ${#missing[@]} -eq 0 ] && exit 0

manager=
for candidate in apt-get dnf yum; do
    if command -v "$candidate" >/dev/null 2>&1; then
        manager=$candidate
        break
    fi
done
packages=()
for command in "${missing[@]}"; do
    read -ra named <<<"$(package "$command" "$manager")"
    packages+=("${named[@]}")
done
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    as_root=(sudo -n)
fi
if [ -z "$manager" ] || { [ "$(id -u)" -ne 0 ] && ! sudo -n true 2>/dev/null; }; then
    echo "Missing: ${missing[*]}. Installing is not permitted here; as root: ${manager:-your package manager} install ${packages[*]}" >&2
    exit "$failed"
fi
echo "Installing ${packages[*]} with $manager" >&2
if [ "$manager" = apt-get ]; then
    # A package that starts a service must not: the tests start their own nginx.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | ${as_root[@]+"${as_root[@]}"} tee "$policy" >/dev/null
        ${as_root[@]+"${as_root[@]}"} chmod +x "$policy"
        # shellcheck disable=SC2064 # the value of now is meant
        trap "${as_root[*]} rm -f $policy" EXIT
    fi
    install() {
        ${as_root[@]+"${as_root[@]}"} apt-get update -qq
        ${as_root[@]+"${as_root[@]}"} env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
    }
else
    install() { ${as_root[@]+"${as_root[@]}"} "$manager" install -y -q "$@"; }
fi
# All at once; where that fails, one by one: a package that this distribution lacks keeps no other from being there.
if ! install "${packages[@]}"; then
    echo "Not all of ${packages[*]} at once: one by one" >&2
    for package in "${packages[@]}"; do
        install "$package" || echo "Could not install $package with $manager" >&2
    done
fi
lacking=()
for command in "${missing[@]}"; do
    is_there "$command" || lacking+=("$command")
done
[ ${#lacking[@]} -eq 0 ] || {
    echo "Still missing: ${lacking[*]}" >&2
    exit "$failed"
}
