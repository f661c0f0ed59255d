#!/usr/bin/env bash
# What is promised of that which is shipped, checked on the finished thing; each promise is printed with what was found.
#     gates.sh binary FILE ARCH GLIBC
#     gates.sh health FILE ARCH
#     gates.sh rpm FILE SAME-BUILT-AGAIN
set -euo pipefail
# shellcheck source=packaging/gate.sh
. "$(dirname "$0")/gate.sh"

# Anything beside glibc itself would be missing on somebody's machine.
binary() { # FILE ARCH GLIBC
    local header dynamic segments highest limit=$((11 << 19)) size machine
    header=$(LC_ALL=C readelf -hW "$1")
    dynamic=$(LC_ALL=C readelf -dW "$1")
    segments=$(LC_ALL=C readelf -lW "$1")
    machine=$(sed -n 's/^ *Machine: *//p' <<<"$header")
    case $2 in
        x86_64) gate machine "$machine" "Advanced Micro Devices X86-64" ;;
        *) gate machine "$machine" AArch64 ;;
    esac
    highest=$(LC_ALL=C readelf -VW "$1" | grep -o 'GLIBC_[0-9.]*' | sort -Vu | tail -n 1)
    if [ "$(printf '%s\n' "${highest#GLIBC_}" "$3" | sort -V | tail -n 1)" = "$3" ]; then
        gate glibc "$highest" "$highest"
    else
        gate glibc "$highest" "GLIBC_$3"
    fi
    gate pie "$(grep -c 'Flags:.* PIE' <<<"$dynamic")" 1
    gate relro "$(grep -c GNU_RELRO <<<"$segments") $(grep -c 'Flags: .*NOW' <<<"$dynamic")" "1 1"
    gate stack "$(sed -n 's/^ *GNU_STACK .* \(R[W ][E ]\) .*/\1/p' <<<"$segments" | tr -d ' ')" RW
    gate libraries "$(sed -n 's/.*NEEDED.*\[\(.*\)\]/\1/p' <<<"$dynamic" |
        grep -vxE 'lib(c|m|dl|rt|pthread)\.so\.[0-9]+|ld-linux-(x86-64|aarch64)\.so\.[0-9]+' | xargs)" ""
    gate paths "$(grep -caE '/(home|root)/[^/]+/' "$1" || true)" 0
    size=$(stat -c %s "$1")
    gate size "$size" "$((size <= limit ? size : limit))"
}

# It starts and answers; a foreign one under qemu, where that is installed.
health() { # FILE ARCH
    local runner=() work agent url='' answer=none
    if [ "$2" != "$(uname -m)" ]; then
        if ! command -v "qemu-$2-static" >/dev/null || [ ! -d "/usr/$2-linux-gnu" ]; then
            printf '  --   %-33s %s\n' health "not run: qemu-$2-static or /usr/$2-linux-gnu is missing" >&2
            return 0
        fi
        runner=("qemu-$2-static" -L "/usr/$2-linux-gnu")
    fi
    work=$(mktemp -d)
    AGENT_PATHS_STATE=$work AGENT_PATHS_RUN=$work AGENT_IDENTITY_ENDPOINT=http://127.0.0.1:1 \
        "${runner[@]}" "$1" serve --no-nginx --listen 127.0.0.1:0 --admin 127.0.0.1:0 2>"$work/log" &
    agent=$!
    for _ in $(seq 300); do
        url=$(sed -n 's|.*/health on \(http://[0-9.:]*\),.*|\1|p' "$work/log" | head -n 1)
        [ -z "$url" ] || break
        kill -0 "$agent" 2>/dev/null || break
        sleep 0.1
    done
    [ -z "$url" ] || answer=$(curl -s -o /dev/null -m 10 -w '%{http_code}' "$url/health" || true)
    [ "$answer" = 200 ] || cat "$work/log" >&2
    kill -INT "$agent" 2>/dev/null || true
    wait "$agent" 2>/dev/null || true
    rm -rf "$work"
    gate health "$answer" 200
}

# Amazon Linux 2 has rpm 4.11: it reads no newer payload and knows no newer requirement.
rpm_file() { # FILE SAME-BUILT-AGAIN
    gate rpmlib "$(rpm -qp --requires "$1" | sed -n 's/^rpmlib(\([A-Za-z]*\)).*/\1/p' | sort | xargs)" \
        "CompressedFileNames FileDigests PayloadFilesHavePrefix PayloadIsXz"
    gate payload "$(rpm -qp --qf '%{PAYLOADCOMPRESSOR} %{FILEDIGESTALGO}' "$1")" "xz 8"
    gate digests "$(rpm -Kv --nosignature "$1" | grep -ci 'digest: NOTFOUND\|: BAD' || true)" 0
    gate host "$(rpm -qp --qf '%{BUILDHOST}' "$1")" localhost
    gate repeatable "$(sha256sum <"$1" | cut -c -16)" "$(sha256sum <"$2" | cut -c -16)"
    # What is a matter of taste or of another distribution is left out in rpm/rpmlint.toml, each with its reason.
    if command -v rpmlint >/dev/null; then
        local said
        said=$(rpmlint -c rpm/rpmlint.toml "$1" 2>&1 || true)
        grep -q '; 0 errors, 0 warnings' <<<"$said" || printf '%s\n' "$said" >&2
        gate rpmlint "$(grep -o '[0-9]* errors, [0-9]* warnings' <<<"$said")" "0 errors, 0 warnings"
    else
        printf '  --   %-33s %s\n' rpmlint "not run: it isn't installed" >&2
    fi
}

kind=$1
shift
[ "$kind" = rpm ] && echo "Gates of $(rpm -qp "$1"):" || echo "Gates of ${1##*/}:"
case $kind in
    binary) binary "$@" ;;
    health) health "$@" ;;
    rpm) rpm_file "$@" ;;
    *) echo "gates.sh: unknown: $kind" >&2 && exit 2 ;;
esac
exit "$failed"
