#!/usr/bin/env bash
# The aarch64 package on an arm64 Debian under qemu's user emulation: installed, wired into its nginx, asked, removed.
#     test-arm64.sh FILE.rpm
# Wants root, mmdebstrap and qemu-aarch64-static. Its mounts and processes live in namespaces of their own, and what
# it registers with binfmt_misc and writes is removed. Faults aren't tried: under the emulation /proc/PID/exe is qemu's.
set -euo pipefail

rpm=$(realpath -e "$1")
# shellcheck source=packaging/gate.sh
. "$(dirname "$0")/gate.sh"
stage=${2:-}
root=${3:-}/root

# magic and mask: an ELF file of 64 bits, little endian, executable or shared, for machine 183 (qemu's
# scripts/qemu-binfmt-conf.sh); F: qemu is opened now, so the root needs none.
make_root() {
    mount -t proc proc /proc
    mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
    entry=/proc/sys/fs/binfmt_misc/asg-agent-aarch64
    if ! grep -qs '^interpreter .*aarch64' /proc/sys/fs/binfmt_misc/*; then
        trap 'echo -1 >"$entry"' EXIT
        magic='\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
        mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
        printf '%s\n' ":${entry##*/}:M::$magic:$mask:$(command -v qemu-aarch64-static):F" \
            >/proc/sys/fs/binfmt_misc/register
    fi
    echo "Making an arm64 Debian"
    mmdebstrap --quiet --skip=check/qemu --arch=arm64 --variant=minbase \
        --include=nginx-light,rpm,curl,procps bookworm "$root"
}

case $stage in
    '')
        work=$(mktemp -d /tmp/asg-arm64.XXXXXX)
        trap 'rm -rf --one-file-system "$work"' EXIT
        unshare --mount --pid --fork --kill-child "$0" "$rpm" make "$work"
        exit
        ;;
    make)
        make_root
        unshare --net "$0" "$rpm" try "$3" # it came by the network, and is tried without
        exit
        ;;
esac

ip link set lo up
cp "$rpm" "$root/asg-agent.rpm"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/run"

on() { env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root chroot "$root" sh -euc "$1"; }
# Asks until the answer is this one, ten seconds at most: qemu makes all of it slow.
answers() { # URL CODE
    local said=''
    for _ in $(seq 50); do
        said=$(curl -s -o /dev/null -m 2 -w '%{http_code}' -H 'Host: 10.0.0.1' "$1" || true) # as probes have it
        [ "$said" != "$2" ] || break
        sleep 0.2
    done
    echo "$said"
}

gate "uname -m" "$(on 'uname -m')" aarch64
on 'rpm -i --force-debian --nodeps /asg-agent.rpm'
gate "agent --version" "$(on 'agent --version')" "agent $(rpm -qp --nosignature --qf '%{VERSION}' "$rpm")"
on '/usr/libexec/asg-agent/nginx-setup install' >/dev/null
on 'nginx'
AGENT_IDENTITY_ENDPOINT=http://127.0.0.1:1 chroot "$root" agent serve 2>"$root/serve.log" &
serve=$!
direct=http://127.0.0.1:8080/health
gate "/health directly" "$(answers "$direct" 200)" 200
gate "/health through nginx" "$(answers http://127.0.0.1/health 200)" 200
on 'nginx -s stop'
gate "nginx stopped: /health directly" "$(answers "$direct" 503)" 503
on 'nginx'
gate "nginx started: /health directly" "$(answers "$direct" 200)" 200
gate "agent stress, exit code" "$(on 'agent stress --cpu 1 --secs 2 --load 50 --priority normal >/dev/null 2>&1; echo $?')" 0
gate "agent probes --once, exit code" "$(on 'agent probes --once >/dev/null 2>&1 || echo $?')" 3
gate "agent status, exit code" "$(on 'agent status >/dev/null; echo $?')" 0
kill "$serve"
wait "$serve" || true
on 'rpm -e asg-agent'
gate "left after rpm -e" "$(on 'ls -d /usr/bin/agent /etc/nginx/conf.d/*asg* /var/lib/asg-agent 2>/dev/null || true' | xargs)" ""
on 'nginx -s stop'
exit "$failed"
