#!/usr/bin/env bash
# What ami-bake.sh does on the instance that becomes an image: install, verify, clean. Stands alone (bash 4.2 or later,
# curl, rpm, systemd), so that this one file can be copied to the instance, or travel to it over SSM.
set -euo pipefail

RELEASE=/etc/ami-bake-release  # stays in the image: from what it was made
KEPT=/run/ami-bake             # this script, while the instance runs
HEALTH=http://127.0.0.1:8080/health
failures=0

usage() {
    cat >&2 <<'USAGE'
instance.sh install --rpm FILE|--rpm-url URL [--sha256 HEX] [--rpm-key FILE] [--nginx-conf FILE] [--root DIR]
instance.sh verify [--booted] [--root DIR]
instance.sh clean [--check] [--root DIR]
USAGE
}
wrong() {
    echo "ami-bake: $*" >&2
    exit 2
}
die() {
    echo "ami-bake: $*" >&2
    exit 1
}
ok() { printf 'ok    %s\n' "$*"; }
bad() {
    printf 'FAIL  %s\n' "$*"
    failures=$((failures + 1))
}
# Says how it ended: 1 when anything failed.
conclude() {
    [ "$failures" -eq 0 ] || die "$failures of the checks failed: $1"
}
has() { command -v "$1" >/dev/null 2>&1; }
# Whether the files are looked at from outside, in a chroot: no service runs then.
offline() { [ -n "${AMI_BAKE_OFFLINE:-}" ]; }

# Runs this script in another root, in which nothing of it stays: what it needs lies in a /run of its own, which ends
# with the mount namespace.
in_root() {
    local root=$1 verb=$2 file i args=("${@:3}")
    [ -x "$root/bin/bash" ] || wrong "$root is no root of a Linux with bash"
    for ((i = 0; i < ${#args[@]}; i++)); do
        case ${args[i]} in --rpm | --rpm-key) args[i + 1]=$(realpath -e "${args[i + 1]}") ;; esac
    done
    file=$(realpath -e "${BASH_SOURCE[0]}")
    # shellcheck disable=SC2016 # expanded over there
    exec unshare --mount --fork -- bash -euc '
        root=$1 script=$2 verb=$3; shift 3
        mount -t tmpfs tmpfs "$root/run"
        mount --rbind /dev "$root/dev"
        mount -t proc proc "$root/proc"
        install -D "$script" "$root/run/ami-bake/instance.sh"
        args=(); before=
        for word in "$@"; do
            case $before in --rpm | --rpm-key)
                cp "$word" "$root/run/ami-bake/${before#--}"
                word=/run/ami-bake/${before#--} ;;
            esac
            args+=("$word"); before=$word
        done
        exec env AMI_BAKE_OFFLINE=1 PATH=/usr/sbin:/usr/bin:/sbin:/bin \
            chroot "$root" bash /run/ami-bake/instance.sh "$verb" "${args[@]}"' \
        bash "$(realpath -e "$root")" "$file" "$verb" "${args[@]}"
}

# ---- install

# The RPM at $RPM is the one that is meant.
check_rpm() {
    local sum arch keys said
    sum=$(sha256sum "$RPM")
    [ -z "$SHA256" ] || [ "${sum%% *}" = "$SHA256" ] || die "the RPM has SHA-256 ${sum%% *}, not $SHA256"
    if [ -n "$KEY" ]; then
        keys=$SCRATCH/keys
        mkdir "$keys"
        rpmkeys --define "_dbpath $keys" --import "$KEY" || die "$KEY is no public key"
        said=$(rpmkeys --define "_dbpath $keys" --checksig "$RPM" 2>&1) || die "signature: ${said#*: }"
        # An unsigned package passes --checksig as well: its digests are OK.
        grep -Eiq 'signatures|pgp' <<<"${said#"$RPM"}" || die "the RPM is not signed"
        ok "signed by $KEY"
    fi
    arch=$(rpm -qp --nosignature --qf '%{NAME} %{ARCH}' "$RPM")
    [ "$arch" = "asg-agent $(uname -m)" ] || die "the RPM is $arch, this instance is $(uname -m)"
}

install_rpm() {
    local wanted flags=()
    # The digest of its header tells what is installed from what is to be: a second run has nothing to do.
    wanted=$(rpm -qp --nosignature --qf "$IDENTITY" "$RPM")
    if [ "$wanted" = "$(installed)" ]; then
        ok "asg-agent is installed already"
        return
    fi
    # dnf and yum bring what it needs; they take another build of the same version for nothing to do.
    if [ -z "$(installed)" ] && has dnf; then
        dnf -y -q install "$RPM"
    elif [ -z "$(installed)" ] && has yum; then
        yum -y -q install "$RPM"
    else
        # Where rpm isn't the distribution's own, its database knows nothing of what is there.
        [ ! -e /etc/debian_version ] || flags=(--force-debian --nodeps)
        rpm -U --replacepkgs --oldpackage "${flags[@]}" "$RPM"
    fi
    [ "$wanted" = "$(installed)" ] || die "asg-agent was not installed"
    ok "installed $(rpm -q asg-agent)"
}
IDENTITY='%{VERSION}-%{RELEASE} %{SHA1HEADER} %{SIGMD5} %{BUILDTIME}'
installed() { ! rpm -q asg-agent >/dev/null 2>&1 || rpm -q --qf "$IDENTITY" asg-agent; }

install_nginx() {
    if [ -z "$NGINX_CONF" ] && ! has nginx; then
        if has dnf; then dnf -y -q install nginx; elif has yum; then yum -y -q install nginx; fi
        has nginx || die "there is no nginx: install it first, or name one built from source with --nginx-conf"
    fi
    /usr/libexec/asg-agent/nginx-setup install ${NGINX_CONF:+--nginx-conf "$NGINX_CONF"}
}

enable_units() {
    local unit
    for unit in nginx.service asg-agent.service asg-agent-recover.service; do
        [ -e "/usr/lib/systemd/system/$unit" ] || [ -e "/lib/systemd/system/$unit" ] || continue
        systemctl enable --quiet "$unit"
        offline || [ "$unit" = asg-agent-recover.service ] || systemctl start "$unit"
        ok "enabled $unit"
    done
}

install() {
    [ -n "$RPM$URL" ] || wrong "install wants --rpm or --rpm-url"
    [ -z "$URL" ] || [ -n "$SHA256" ] || wrong "--rpm-url wants --sha256 as well"
    SCRATCH=$(mktemp -d)
    trap 'rm -rf "$SCRATCH"' EXIT
    if [ -n "$URL" ]; then
        RPM=$SCRATCH/asg-agent.rpm
        # Not the URL in a message: it may be a signed one.
        curl -fsS --proto '=https,file' --retry 5 --max-time 300 -o "$RPM" "$URL" || die "the RPM cannot be fetched"
    fi
    if [ -n "$KEY64" ]; then
        KEY=$SCRATCH/key
        base64 -d <<<"$KEY64" >"$KEY"
    fi
    [ -r "$RPM" ] || wrong "there is no file $RPM"
    check_rpm
    install_rpm
    install_nginx
    enable_units
    # The machine-id is confidential (machine-id(5)): its hash is enough to see that a copy has another.
    printf 'VERSION=%s\nRPM_SHA256=%s\nBASE=%s\nRUN=%s\nBUILDER=%s\n' "$(rpm -q --qf '%{VERSION}' asg-agent)" \
        "$(sha256sum <"$RPM" | cut -c 1-64)" "$BASE" "$RUN" "$(builder)" >"$RELEASE.new"
    mv "$RELEASE.new" "$RELEASE"
}
builder() { (echo ami-bake && cat /etc/machine-id) | sha256sum | cut -c 1-64; }

# ---- verify

# soon SECONDS COMMAND…: whether it says yes within the time.
soon() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.2
    done
}
status_is() { [ "$(curl -s -o /dev/null -m 2 -w '%{http_code}' "${@:2}")" = "$1" ]; }
# As the load balancer asks: the Host is the private address. Only the agent answers in this type.
through_nginx() {
    local address said
    address=$(hostname -I 2>/dev/null | cut -d ' ' -f 1) || address=
    said=$(curl -s -m 2 -o /dev/null -w '%{http_code} %{content_type}' -H "Host: ${address:-10.0.0.1}" http://127.0.0.1/health)
    [ "$said" = '200 application/health+json' ]
}
# expect WHAT COMMAND…
expect() {
    local what=$1
    shift
    if "$@"; then ok "$what"; else bad "$what"; fi
}
enabled() { [ "$(systemctl is-enabled "$1" 2>/dev/null)" = enabled ]; }
property() { systemctl show -p "$@" | cut -d = -f 2; }
main_pid() { property MainPID asg-agent.service; }
other_pid() { [ "$(main_pid)" != "$1" ] && [ "$(main_pid)" != 0 ]; }
recovers() { agent recover >/dev/null 2>&1; }
no_failed_units() { [ -z "$(systemctl list-units --failed --no-legend --plain)" ]; }
files_are_whole() {
    # Files of configuration may differ; everything else is as packed.
    ! rpm -V --nodeps asg-agent | grep -v '^.\{9\}  c '
}

# In the image that has booted: it is a machine of its own.
verify_booted() {
    local id started
    id=$(cat /etc/machine-id)
    expect "it has a machine-id" test "${#id}" -eq 32
    expect "which is not the builder's" test "$(builder)" != "$(sed -n 's/^BUILDER=//p' "$RELEASE")"
    started=$(($(property ActiveEnterTimestampMonotonic asg-agent.service) - $(property UserspaceTimestampMonotonic)))
    expect "the agent was up $((started / 1000000)) s after init" test "$started" -gt 0 -a "$started" -lt 180000000
}

verify() {
    local unit=nginx.service pid
    expect "the package's files are as packed" files_are_whole
    expect "asg-agent.service is enabled" enabled asg-agent.service
    expect "asg-agent-recover.service is enabled" enabled asg-agent-recover.service
    enabled "$unit" || unit=
    if offline; then
        expect "the agent runs" agent --version
        [ -z "$unit" ] || expect "nginx accepts its configuration" nginx -t -q
        conclude "this root gives no image that works"
        return
    fi
    [ "$BOOTED" = no ] || verify_booted
    expect "asg-agent.service is active" soon 30 systemctl -q is-active asg-agent.service
    expect "/health says 200" soon 30 status_is 200 "$HEALTH"
    expect "/health says 200 through nginx" soon 10 through_nginx
    if [ -n "$unit" ]; then
        systemctl stop "$unit"
        expect "nginx stopped: /health says 503" soon 15 status_is 503 "$HEALTH"
        systemctl start "$unit"
        expect "nginx started: /health says 200" soon 30 status_is 200 "$HEALTH"
    fi
    if agent fail --mode stop --secs 60 --detach >/dev/null; then
        ok "agent fail stops nginx"
        expect "and /health says 503" soon 15 status_is 503 "$HEALTH"
    else
        bad "agent fail stops nginx"
    fi
    expect "agent recover brings it back" recovers
    expect "and /health says 200 through nginx" soon 30 through_nginx
    pid=$(main_pid)
    systemctl kill --kill-who=main --signal=KILL asg-agent.service
    expect "asg-agent.service comes back when it is killed" soon 30 other_pid "$pid"
    expect "and /health says 200" soon 30 status_is 200 "$HEALTH"
    expect "no unit has failed" no_failed_units
    conclude "this instance gives no image that works"
}

# ---- clean

# What must not be in an image (EC2 guide, "building shared AMIs"; Image Builder, "security best practices"): a name, when it
# is removed, and the globs. again: now, and once more as the instance shuts down, because what runs until then writes
# it. last: only then, because what runs until then needs it.
items() {
    cat <<'ITEMS'
ssh host keys|now|/etc/ssh/ssh_host_*_key /etc/ssh/ssh_host_*_key.pub
authorized keys|now|~/.ssh/authorized_keys*
private keys and credentials|now|~/.ssh/id_* ~/.aws ~/.docker/config.json ~/.netrc ~/.git-credentials ~/.gnupg/private-keys-v1.d
histories|now|~/.*_history ~/.*history ~/.lesshst ~/.viminfo ~/.ssh/known_hosts* ~/.wget-hsts ~/.sudo_as_admin_successful
cloud-init's state|now|/var/lib/cloud/*
logs|again|/var/log/*
random seeds|again|/var/lib/systemd/random-seed /var/lib/systemd/credential.secret /boot/efi/loader/random-seed /var/lib/random-seed
DHCP leases|again|/var/lib/dhclient/* /var/lib/dhcp/*.lease* /var/lib/dhcpcd/*.lease /var/lib/NetworkManager/*lease* /var/lib/NetworkManager/secret_key /var/lib/NetworkManager/timestamps
package caches|now|/var/cache/dnf/* /var/cache/yum/* /var/cache/apt/archives/*.deb
Systems Manager's state|last|/var/lib/amazon/ssm/*
the agent's state|again|/var/lib/asg-agent/*.json /var/lib/asg-agent/serve/* /run/asg-agent/*
mail and temporary files|now|/var/mail/* /var/spool/mail/* /tmp/* /var/tmp/*
the installer's memory of sudo|now|/var/db/sudo/lectured/* /var/lib/sudo/lectured/* /run/sudo/ts/*
ITEMS
}

homes() { cut -d : -f 6 /etc/passwd | grep -E '^/(root|home/|opt/|var/lib/).*' | sort -u; ls -d /home/* /root 2>/dev/null || true; }

# The files that the globs name, or that lie below what they name; not folders, nor what services keep for themselves.
matches() {
    local glob path home
    set -f
    # shellcheck disable=SC2068 # words are wanted
    set -- $@
    set +f
    for glob in "$@"; do
        case $glob in
            '~'*)
                while IFS= read -r home; do
                    below "$home${glob#\~}"
                done <<<"$(homes | sort -u)"
                ;;
            *) below "$glob" ;;
        esac
    done
}
below() {
    local path
    # compgen: a glob that may hold blanks, and that may match nothing.
    while IFS= read -r path; do
        [ -z "$path" ] || find "$path" -xdev -path '*/systemd-private-*' -prune -o ! -type d ! -type s ! -type p -print
    done <<<"$(compgen -G "$1" || true)"
}

# Removes the items, those of the last minute only where that has come: yes or no.
remove_items() {
    local name when globs path
    while IFS='|' read -r name when globs; do
        [ "$1" = yes ] || [ "$when" != last ] || continue
        while IFS= read -r path; do
            [ -z "$path" ] || rm -f -- "$path"
        done <<<"$(matches "$globs")"
    done <<<"$(items)"
    # Empty, not absent: at the next boot systemd makes a new one. D-Bus' own is a link to it, or a copy.
    : >/etc/machine-id
    [ -L /var/lib/dbus/machine-id ] || rm -f /var/lib/dbus/machine-id
}

# What the shutdown itself writes goes as its last step: this unit is stopped after those that write.
arm_last() {
    mkdir -p "$KEPT" /run/systemd/system
    [ "${BASH_SOURCE[0]}" -ef "$KEPT/instance.sh" ] || cp "${BASH_SOURCE[0]}" "$KEPT/instance.sh"
    cat >/run/systemd/system/ami-bake-last.service <<UNIT
[Unit]
Description=Remove what must not be in an image, once everything else has ended
DefaultDependencies=no
Conflicts=shutdown.target
Before=shutdown.target asg-agent.service nginx.service amazon-ssm-agent.service rsyslog.service auditd.service
Before=snap.amazon-ssm-agent.amazon-ssm-agent.service
Before=cloud-final.service chronyd.service systemd-random-seed.service systemd-update-utmp.service
Before=NetworkManager.service systemd-networkd.service dhclient.service networking.service
RequiresMountsFor=/var/log /var/lib /root /home /tmp
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
ExecStop=/bin/bash $KEPT/instance.sh clean --last
UNIT
    systemctl daemon-reload
    systemctl start ami-bake-last.service
}

clean() {
    if [ "$LAST" = yes ]; then
        remove_items yes
        sync
        return
    fi
    if [ "$CHECK" = no ]; then
        if ! offline; then
            agent recover >/dev/null || die "a simulated failure is active and cannot be ended: see agent recover"
            arm_last
            # SIGINT: no draining, nobody asks any more.
            systemctl kill --kill-who=main --signal=INT asg-agent.service 2>/dev/null || true
            systemctl stop asg-agent.service nginx.service
            for unit in rsyslog.service syslog.socket crond.service cron.service; do
                ! systemctl -q is-active "$unit" || systemctl stop "$unit"
            done
            # The journal goes to /run from here on (systemd 243; before, Amazon Linux keeps it there anyway).
            journalctl --relinquish-var 2>/dev/null || true
        fi
        if offline; then remove_items yes; else remove_items no; fi
        sync
    fi
    prove
}

# Item by item: nothing is left, or it is removed at the shutdown, for which the unit stands ready.
prove() {
    local name when globs left
    while IFS='|' read -r name when globs; do
        left=$(matches "$globs")
        if [ -z "$left" ]; then
            ok "no $name"
        elif [ "$when" != now ] && ! offline; then
            expect "$name, written until the end, go at the shutdown" systemctl -q is-active ami-bake-last.service
        else
            bad "$name: $(head -n 3 <<<"$left" | tr '\n' ' ')"
        fi
    done <<<"$(items)"
    expect "the machine-id is empty" test ! -s /etc/machine-id
    expect "D-Bus has no machine-id of its own" test -L /var/lib/dbus/machine-id -o ! -e /var/lib/dbus/machine-id
    expect "no simulated failure is on record" test ! -e /var/lib/asg-agent/fault.json
    conclude "this would be in the image"
}

# ---- the command line

main() {
    local verb=${1:-} ROOT=
    RPM='' URL='' SHA256='' KEY='' KEY64='' NGINX_CONF='' BASE='' RUN='' BOOTED=no CHECK=no LAST=no
    local rest=()
    [ $# -eq 0 ] || shift
    case $verb in install | verify | clean) ;; *) usage && exit 2 ;; esac
    while [ $# -gt 0 ]; do
        case $verb:$1 in
            verify:--booted) BOOTED=yes rest+=("$1") ;;
            clean:--check) CHECK=yes rest+=("$1") ;;
            clean:--last) LAST=yes ;;
            install:--rpm | install:--rpm-url | install:--sha256 | install:--rpm-key | install:--rpm-key-base64 | \
                install:--nginx-conf | install:--base | install:--run | *:--root)
                [ -n "${2:-}" ] || wrong "$1 wants a value"
                case $1 in
                    --rpm) RPM=$2 ;;
                    --rpm-url) URL=$2 ;;
                    --sha256) SHA256=$2 ;;
                    --rpm-key) KEY=$2 ;;
                    --rpm-key-base64) KEY64=$2 ;;
                    --nginx-conf) NGINX_CONF=$2 ;;
                    --base) BASE=$2 ;;
                    --run) RUN=$2 ;;
                    --root) ROOT=$2 ;;
                esac
                [ "$1" = --root ] || rest+=("$1" "$2")
                shift
                ;;
            *) usage && exit 2 ;;
        esac
        shift
    done
    [ "$(id -u)" -eq 0 ] || die "$verb needs root"
    [ -z "$ROOT" ] || in_root "$ROOT" "$verb" "${rest[@]}"
    "$verb"
}
main "$@"
