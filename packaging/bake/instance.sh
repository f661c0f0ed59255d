#!/usr/bin/env bash
# What ami-bake.sh does on the instance that becomes an image: install, verify, clean. Stands alone (bash 4.2 or later,
# curl, rpm, systemd), so that this one file can be copied to the instance, or travel to it over SSM.
set -euo pipefail

RELEASE=/etc/ami-bake-release  # stays in the image: from what it was made
KEPT=/run/ami-bake             # this script, while the instance runs
WAIT=${AMI_BAKE_WAIT:-600}     # seconds that cloud-init and other package managers are waited for
MODES='stop crash hang drop reject error unhealthy slow' # of agent fail
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
    local root=$1 verb=$2 file i args
    shift 2
    args=("$@")
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
            chroot "$root" bash /run/ami-bake/instance.sh "$verb" ${args[@]+"${args[@]}"}' \
        bash "$(realpath -e "$root")" "$file" "$verb" ${args[@]+"${args[@]}"}
}

# ---- install

# What the instance does by itself after its start comes first: cloud-init may write nginx's files, and may be at work
# with the package manager. Run by cloud-init itself, this doesn't wait for it.
settle() {
    local code=0 holder end=$((SECONDS + WAIT))
    offline && return 0
    if has cloud-init && [ -d /run/cloud-init ] && ! grep -q 'cloud-\(final\|config\|init\)' /proc/self/cgroup; then
        timeout "$WAIT" cloud-init status --wait >/dev/null 2>&1 || code=$?
        case $code in
            0) ok "cloud-init has ended" ;;
            124) die "cloud-init has not ended after $WAIT s: \`cloud-init status --long\` says at what it is" ;;
            *) echo "--    cloud-init has ended with $code: \`cloud-init status --long\` says why" ;;
        esac
    fi
    until holder=$(lock_holder) && [ -z "$holder" ]; do
        [ "$SECONDS" -lt "$end" ] || die "the package manager is busy, after $WAIT s still: $holder"
        sleep 1
    done
}
# Who holds a lock of a package manager: one line, or none. rpm and dpkg lock the file, dnf and yum write their pid.
lock_holder() {
    local file pid
    for file in /var/lib/rpm/.rpm.lock /usr/lib/sysimage/rpm/.rpm.lock /run/dnf/rpmtransaction.lock \
        /var/lib/dpkg/lock-frontend /var/lib/dpkg/lock; do
        [ -e "$file" ] || continue
        # 1: POSIX  ADVISORY  WRITE 1234 08:01:123456 0 EOF (proc(5), /proc/locks)
        pid=$(awk -v inode=":$(stat -c %i "$file")\$" '$6 ~ inode && $2 != "->" { print $5; exit }' /proc/locks)
        [ -z "$pid" ] || { echo "$file is held by process $pid ($(cat "/proc/$pid/comm" 2>/dev/null))" && return 0; }
    done
    for file in /var/run/yum.pid /var/cache/dnf/*_lock.pid /var/lib/dnf/*_lock.pid; do
        pid=$(head -c 12 "$file" 2>/dev/null | tr -dc 0-9) || continue
        case $(cat "/proc/${pid:-none}/comm" 2>/dev/null) in
            yum* | dnf* | python* | microdnf*) echo "$file names process $pid, which runs" && return 0 ;;
        esac
    done
}
# A package manager may take the lock between the look and the use.
patient() {
    local end=$((SECONDS + WAIT))
    until "$@"; do
        { [ "$SECONDS" -lt "$end" ] && [ -n "$(lock_holder)" ]; } || return 1
        settle
    done
}

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
        patient dnf -y -q install "$RPM"
    elif [ -z "$(installed)" ] && has yum; then
        patient yum -y -q install "$RPM"
    else
        # Where rpm isn't the distribution's own, its database knows nothing of what is there.
        [ ! -e /etc/debian_version ] || flags=(--force-debian --nodeps)
        patient rpm -U --replacepkgs --oldpackage ${flags[@]+"${flags[@]}"} "$RPM"
    fi
    [ "$wanted" = "$(installed)" ] || die "asg-agent was not installed"
    ok "installed $(rpm -q asg-agent)"
}
IDENTITY='%{VERSION}-%{RELEASE} %{SHA1HEADER} %{SIGMD5} %{BUILDTIME}'
installed() { ! rpm -q asg-agent >/dev/null 2>&1 || rpm -q --qf "$IDENTITY" asg-agent; }

install_nginx() {
    if [ -z "$NGINX_CONF" ] && ! has nginx; then
        fetch_package nginx
        has nginx || die "there is no nginx: install it first, or name one built from source with --nginx-conf"
    fi
    /usr/libexec/asg-agent/nginx-setup install ${NGINX_CONF:+--nginx-conf "$NGINX_CONF"}
}

# A package of the distribution, where its package manager is one that we know.
fetch_package() {
    if has dnf; then
        patient dnf -y -q install "$1"
    elif has yum; then
        # Amazon Linux 2 has nginx only as one of its extras.
        patient yum -y -q install "$1" || { has amazon-linux-extras && amazon-linux-extras install -y "${1}1" >/dev/null; }
    elif has apt-get; then
        patient env DEBIAN_FRONTEND=noninteractive apt-get -y -qq install "$1"
    else
        return 1
    fi
}

# The modes drop and reject need nft, which the stock image of Amazon Linux 2023 doesn't have. The RPM can't ask for it
# in a way that rpm 4.11 knows (Recommends). Without it all else works: no reason to fail.
install_nftables() {
    if has nft; then
        ok "nftables is there, for the modes drop and reject"
    elif ! offline && fetch_package nftables >/dev/null 2>&1 && has nft; then
        ok "installed nftables, for the modes drop and reject"
    else
        echo "--    no nftables here: agent fail --mode drop and reject can't work in this image"
    fi
}

enable_units() {
    local unit
    for unit in nginx.service asg-agent.service asg-agent-recover.service asg-agent-nginx.service; do
        [ -e "/usr/lib/systemd/system/$unit" ] || [ -e "/lib/systemd/system/$unit" ] || continue
        # An nginx that something else starts, or that is built from source, is not ours to enable.
        if [ "$unit" = nginx.service ] && [ -n "$NGINX_CONF" ] && [ -n "$(starts_at_boot)" ]; then continue; fi
        systemctl enable --quiet "$unit"
        offline || [[ $unit == asg-agent-* ]] || systemctl start "$unit"
        ok "enabled $unit"
    done
}

# A redirect is an answer of S3 about another endpoint, and what it says is no RPM: not followed, and never taken for one.
fetch_rpm() {
    local said magic
    said=$(curl -sS --proto '=https,file' --retry 5 --max-time 300 -o "$RPM" -w '%{http_code}' "$URL" 2>"$SCRATCH/curl") ||
        die "the RPM cannot be fetched: $(sed "s|$URL|the URL|g" "$SCRATCH/curl" | tail -n 1)"
    case $URL:$said in
        file:*:* | *:200) ;;
        *:3??) die "the RPM cannot be fetched: HTTP $said, a redirect; the URL must name the bucket's own regional endpoint" ;;
        *) die "the RPM cannot be fetched: HTTP $said, $(tr -d '\n' <"$RPM" | sed -n 's|.*<Code>\([A-Za-z]*\)</Code>.*|\1|p')" ;;
    esac
    magic=$(od -An -tx1 -N4 "$RPM" | tr -d ' ')
    [ "$magic" = edabeedb ] || die "what the URL gave is no RPM: it begins with $(head -c 40 "$RPM" | tr -dc '[:print:]')"
}

install() {
    [ -n "$RPM$URL" ] || wrong "install wants --rpm or --rpm-url"
    [ -z "$URL" ] || [ -n "$SHA256" ] || wrong "--rpm-url wants --sha256 as well"
    SCRATCH=$(mktemp -d)
    trap 'rm -rf "$SCRATCH"' EXIT
    if [ -n "$URL" ]; then
        RPM=$SCRATCH/asg-agent.rpm
        # Not the URL in a message: it may be a signed one.
        fetch_rpm
    fi
    if [ -n "$KEY64" ]; then
        KEY=$SCRATCH/key
        base64 -d <<<"$KEY64" >"$KEY"
    fi
    [ -r "$RPM" ] || wrong "there is no file $RPM"
    settle
    check_rpm
    install_rpm
    install_nginx
    install_nftables
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
# Each unit that has failed, and its last lines.
no_failed_units() {
    local unit failed
    failed=$(systemctl list-units --failed --no-legend --plain | cut -d ' ' -f 1)
    for unit in $failed; do
        echo "      $unit has failed; its last lines:"
        { journalctl --no-pager -q -o cat -n 5 -u "$unit" 2>/dev/null || true; } | sed 's/^/        /'
    done
    [ -z "$failed" ]
}
# expect, with the last lines of a unit where the answer is no.
expect_of() {
    local unit=$1 before=$failures
    shift
    expect "$@"
    [ "$failures" -eq "$before" ] || journalctl --no-pager -q -o cat -n 8 -u "$unit" 2>/dev/null | sed 's/^/        /' || true
}

# What starts nginx at boot, one line each: a unit that is enabled, an init script, rc.local, cron, cloud-init. Looks at
# files alone, so that it works in a root that doesn't run.
starts_at_boot() {
    local file
    for file in /etc/systemd/system/*.wants/* /etc/systemd/system/*.requires/* /usr/lib/systemd/system/*.wants/*; do
        case ${file##*/} in asg-agent* | '*') continue ;; esac
        ! grep -qs '^Exec[A-Za-z]*=.*nginx' "$file" || echo "${file##*/}"
    done
    for file in /etc/rc[2345].d/S*nginx* /etc/rc.d/rc[2345].d/S*nginx*; do
        [ ! -e "$file" ] || echo "$file"
    done
    for file in /etc/rc.local /etc/rc.d/rc.local /var/lib/cloud/scripts/per-boot/*; do
        if [ -x "$file" ] && grep -qs '^[^#]*nginx' "$file"; then echo "$file"; fi
    done
    for file in /etc/crontab /etc/cron.d/* /var/spool/cron/* /var/spool/cron/crontabs/*; do
        if [ -f "$file" ] && grep -qs '^[[:space:]]*@reboot.*nginx' "$file"; then echo "$file"; fi
    done
}

# The pids of nginx's masters, of whatever program and configuration.
masters() {
    local exe pid title
    for exe in /proc/[0-9]*/exe; do
        case $(readlink "$exe" 2>/dev/null) in */nginx | */nginx' (deleted)' | */openresty) ;; *) continue ;; esac
        pid=${exe#/proc/}
        pid=${pid%/exe}
        title=$(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline") || continue
        case $title in 'nginx: master'*) echo "$pid" ;; esac
    done
}

# nginx VERB (stop or start) by what has it: its unit, or its init script. 3: by hand, nobody has it.
nginx_service() {
    if [ -n "$UNIT" ]; then
        systemctl "$1" "$UNIT"
    elif [ -x /etc/init.d/nginx ]; then
        service nginx "$1" >/dev/null
    else
        return 3
    fi
}

# Every mode that drills.yaml can offer, tried: what can't work in this image is said, with the reason, and left out.
verify_modes() {
    local mode works='' said code
    for mode in $MODES; do
        code=0
        said=$(agent fail --mode "$mode" --secs 60 --detach 2>&1 >/dev/null) || code=$?
        recovers || bad "agent recover ends --mode $mode"
        if [ "$code" -eq 0 ]; then
            works+=" $mode"
        else
            echo "--    agent fail --mode $mode can't work here: $(tail -n 2 <<<"$said" | tr '\n' ' ' | cut -c 1-240)"
        fi
    done
    case " $works " in
        *' stop '*) ok "modes that work here:$works" ;;
        *) bad "agent fail --mode stop works" ;;
    esac
    [ ! -e "$RELEASE" ] || { grep -v ^MODES= "$RELEASE" >"$RELEASE.new" && echo "MODES=\"${works# }\"" >>"$RELEASE.new" && mv "$RELEASE.new" "$RELEASE"; }
}
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
    local pid boot
    expect "the package's files are as packed" files_are_whole
    expect "asg-agent.service is enabled" enabled asg-agent.service
    expect "asg-agent-recover.service is enabled" enabled asg-agent-recover.service
    expect "asg-agent-nginx.service is enabled" enabled asg-agent-nginx.service
    boot=$(starts_at_boot)
    if [ -n "$boot" ]; then
        ok "nginx is started at boot by $(tr '\n' ' ' <<<"$boot")"
    else
        bad "nothing starts nginx at boot: no enabled unit, init script, rc.local or @reboot names it; every instance of this image would be unhealthy"
    fi
    if offline; then
        expect "the agent runs" agent --version
        ! has nginx || ! enabled nginx.service || expect "nginx accepts its configuration" nginx -t -q
        conclude "this root gives no image that works"
        return
    fi
    UNIT=
    for unit in nginx.service $boot; do
        case $unit in *.service) ! systemctl -q is-active "$unit" || { UNIT=$unit && break; } ;; esac
    done
    [ "$BOOTED" = no ] || verify_booted
    expect_of asg-agent.service "asg-agent.service is active" soon 30 systemctl -q is-active asg-agent.service
    expect_of asg-agent.service "/health says 200" soon 30 status_is 200 "$HEALTH"
    expect_of "${UNIT:-nginx.service}" "/health says 200 through nginx" soon 10 through_nginx
    if [ -n "$UNIT" ] || [ -x /etc/init.d/nginx ]; then
        nginx_service stop
        expect "nginx stopped: /health says 503" soon 15 status_is 503 "$HEALTH"
        nginx_service start
        expect "nginx started: /health says 200" soon 30 status_is 200 "$HEALTH"
    else
        echo "--    nginx was started by hand: what would stop and start it isn't known, agent fail stands for that"
    fi
    if agent fail --mode stop --secs 60 --detach >/dev/null; then
        ok "agent fail stops nginx"
        expect "and /health says 503" soon 15 status_is 503 "$HEALTH"
    else
        bad "agent fail stops nginx"
    fi
    expect "agent recover brings it back" recovers
    expect "and /health says 200 through nginx" soon 30 through_nginx
    [ "$BOOTED" = yes ] || verify_modes
    expect "and /health says 200 through nginx, after all of them" soon 30 through_nginx
    pid=$(main_pid)
    systemctl kill --kill-who=main --signal=KILL asg-agent.service
    expect_of asg-agent.service "asg-agent.service comes back when it is killed" soon 30 other_pid "$pid"
    expect "and /health says 200" soon 30 status_is 200 "$HEALTH"
    expect "no unit has failed" no_failed_units
    conclude "this instance gives no image that works"
}

# ---- clean

# What must not be in an image (EC2 guide, "building shared AMIs"; Image Builder, "security best practices"): a name, when it
# is removed, and the globs; a folder stands for all that is in it. again: now, and once more as the instance shuts down, because what runs until then writes
# it. last: only then, because what runs until then needs it.
items() {
    cat <<'ITEMS'
ssh host keys|now|/etc/ssh/ssh_host_*_key /etc/ssh/ssh_host_*_key.pub
authorized keys|now|~/.ssh/authorized_keys*
private keys and credentials|now|~/.ssh/id_* ~/.aws ~/.docker/config.json ~/.netrc ~/.git-credentials ~/.gnupg/private-keys-v1.d
histories|now|~/.*_history ~/.*history ~/.lesshst ~/.viminfo ~/.ssh/known_hosts* ~/.wget-hsts ~/.sudo_as_admin_successful
cloud-init's state|now|/var/lib/cloud/
logs|again|/var/log/
random seeds|again|/var/lib/systemd/random-seed /var/lib/systemd/credential.secret /boot/efi/loader/random-seed /var/lib/random-seed
DHCP leases|again|/var/lib/dhclient/ /var/lib/dhcp/*.lease* /var/lib/dhcpcd/*.lease /var/lib/NetworkManager/*lease* /var/lib/NetworkManager/secret_key /var/lib/NetworkManager/timestamps
package caches|now|/var/cache/dnf/ /var/cache/yum/ /var/cache/libdnf5/ /var/cache/PackageKit/ /var/cache/apt/archives/*.deb /var/cache/apt/*.bin /var/lib/apt/lists/*_*
the instance's name|now|/etc/hostname
rsyslog's place in the journal|again|/var/lib/rsyslog/
Systems Manager's state|last|/var/lib/amazon/ssm/
the agent's state|again|/var/lib/asg-agent/*.json /var/lib/asg-agent/serve/ /run/asg-agent/
mail and temporary files|now|/var/mail/ /var/spool/mail/ /tmp/ /var/tmp/
the installer's memory of sudo|now|/var/db/sudo/lectured/ /var/lib/sudo/lectured/ /run/sudo/ts/
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
        [ -e "$path" ] || [ -L "$path" ] || continue
        find "$path" -xdev -path '*/systemd-private-*' -prune -o ! -type d ! -type s ! -type p -print
    done <<<"$(compgen -G "$1" || true)"
}

# ---- what lies elsewhere: the walk

# The file systems of this machine's own disks: / and what is mounted from a device below it.
roots() {
    echo /
    awk '$1 ~ "^/dev/" && $2 != "/" && $2 !~ "^/(proc|sys|dev|run|boot)(/|$)" { print $2 }' /proc/self/mounts | sort -u
}

# Every file of these disks whose name says that it is a log, a key, a credential or a history, as KIND|FILE; what
# belongs to a package, and what the items above have, isn't among them.
walk() {
    local kind path line
    roots | while IFS= read -r path; do
        find "$path" -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run \
            -o -regex '/usr/\(bin\|sbin\|lib\|lib32\|lib64\|libexec\|share\|src\|include\|games\)' \
            -o -path /var/log -o -path /var/cache -o -path /var/lib/dpkg -o -path /var/lib/rpm -o -path '*/node_modules' \
            -o -path '*/site-packages' \) -prune -o \
            -type f -size +0 \( \
            \( -name '*.log' -o -name '*.log[.-]*' -o -name '*_log' -o -name '*_log[.-]*' -o -name '*.journal' \) -printf 'logs|%p\n' -o \
            \( -name 'authorized_keys*' -o -name 'ssh_host_*_key' -o -name 'ssh_host_*_key.pub' -o -name id_rsa \
            -o -name id_dsa -o -name id_ecdsa -o -name id_ed25519 -o -path '*/.aws/*' -o -name .netrc \
            -o -name .git-credentials -o -name .pgpass -o -path '*/.docker/config.json' \) -printf 'keys and credentials|%p\n' -o \
            \( -name '.*_history' -o -name '.*sh_history' -o -name fish_history -o -name .lesshst -o -name .viminfo \
            -o -path '*/.ssh/known_hosts*' -o -name imjournal.state \) -printf 'histories|%p\n' -o \
            -regex '.*/\(zz-\)?asg-agent-instance\.conf' -printf "ids of this instance|%p\n" \) 2>/dev/null || true
    done | sort -u | while IFS= read -r line; do
        is_packed "${line#*|}" || printf '%s\n' "$line"
    done
}
is_packed() {
    if [ -e /etc/debian_version ]; then dpkg -S "$1" >/dev/null 2>&1; else rpm -qf "$1" >/dev/null 2>&1; fi
}

# The log files that any configuration of nginx here names, with what was rotated away from them: read as text, since an
# nginx that would say it (-T) need not be there, or run.
nginx_logs() {
    local conf prefixes
    prefixes=$(nginx_prefixes)
    { nginx_confs | while IFS= read -r conf; do
        logs_of "$conf" "$(dirname "$conf")" 0 "$prefixes
$(dirname "$(dirname "$conf")")"
    done
        # What it writes where its configuration names none.
        while IFS= read -r conf; do
            [ -z "$conf" ] || printf '%s\n' "$conf/logs/access.log" "$conf/logs/error.log"
        done <<<"$prefixes"
    } | sort -u | while IFS= read -r path; do rotated "$path"; done | sort -u
}
# Programs named nginx anywhere, and what each was built with.
nginx_prefixes() {
    { command -v nginx || true
        roots | while IFS= read -r path; do
            find "$path" -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run \) -prune -o \
                -type f -name nginx -perm -u+x -print 2>/dev/null || true
        done; } | sort -u | while IFS= read -r path; do
        head -c 4 "$path" 2>/dev/null | grep -aq ELF || continue
        "$path" -V 2>&1 | tr ' ' '\n' | sed -n "s/^'*--prefix=//p" | tr -d "'" || true
    done
    echo /usr/local/nginx
}
nginx_confs() {
    roots | while IFS= read -r path; do
        find "$path" -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run \) -prune -o \
            \( -type f -o -type l \) -name 'nginx*.conf' -print 2>/dev/null || true
    done
    # Of any name: those that nginx-setup has wired, and those that a master was started with.
    cat /var/lib/asg-agent/nginx-confs "$KEPT/nginx-confs" 2>/dev/null || true
}
# logs_of FILE FOLDER DEPTH PREFIXES: of a file and what it includes; a variable in a name is a star.
logs_of() {
    local word path file prefix
    [ -f "$1" ] && [ "$3" -lt 8 ] || return 0
    sed 's/#.*//' "$1" | tr '\n\t' '  ' | sed 's/[;{}]/\n/g' | while read -r word path _; do
        path=${path%\"} path=${path#\"} path=${path%\'} path=${path#\'}
        case $word:$path in
            access_log:off | access_log:syslog:* | error_log:syslog:* | error_log:stderr | *:memory:* | *:/dev/*) ;;
            access_log:?* | error_log:?*)
                # shellcheck disable=SC2001 # too much for a substitution
                path=$(sed 's/\$\({[A-Za-z0-9_]*}\|[A-Za-z0-9_]*\)/*/g' <<<"$path")
                case $path in
                    /*) printf '%s\n' "$path" ;;
                    *) while IFS= read -r prefix; do [ -z "$prefix" ] || printf '%s\n' "$prefix/$path"; done <<<"$4" ;;
                esac
                ;;
            include:?*)
                case $path in /*) ;; *) path=$2/$path ;; esac
                while IFS= read -r file; do logs_of "$file" "$2" $(($3 + 1)) "$4"; done <<<"$(compgen -G "$path" || true)"
                ;;
        esac
    done
}
# A log file and what a rotation made of it: access.log, access.log.1, access.log-20260131.gz.
rotated() {
    local glob file
    for glob in "$1" "$1.*" "$1-*"; do
        while IFS= read -r file; do
            if [ -f "$file" ] && [ -s "$file" ]; then readlink -f "$file"; fi
        done <<<"$(compgen -G "$glob" || true)"
    done
}

# What the walk found and this may remove: keys, credentials, histories; logs that nginx is configured to write, or that
# lie in a folder for logs. A log anywhere else may be somebody's data: the proof names it.
remove_walked() {
    local line
    nginx_logs | while IFS= read -r line; do rm -f -- "$line"; done
    walk | while IFS= read -r line; do
        case $line in
            logs\|*/log/* | logs\|*/logs/* | keys*\|* | histories\|* | ids*\|*) rm -f -- "${line#*|}" ;;
        esac
    done
}
prove_walk() {
    local left kind
    left=$(nginx_logs)
    if [ -z "$left" ]; then ok "no logs of any nginx's configuration"; else
        bad "logs of nginx's configuration: $(head -n 3 <<<"$left" | tr '\n' ' ')"
    fi
    left=$(walk)
    for kind in logs 'keys and credentials' histories 'ids of this instance'; do
        if grep -q "^$kind|" <<<"$left"; then
            bad "$kind elsewhere: $(sed -n "s/^$kind|//p" <<<"$left" | head -n 5 | tr '\n' ' ')"
        else
            ok "no $kind anywhere else"
        fi
    done
}

# ---- removing

# Removes the items, those of the last minute only where that has come: yes or no.
remove_items() {
    local name when globs path
    while IFS='|' read -r name when globs; do
        [ "$1" = yes ] || [ "$when" != last ] || continue
        while IFS= read -r path; do
            [ -z "$path" ] || rm -f -- "$path"
        done <<<"$(matches "$globs")"
    done <<<"$(items)"
    remove_walked
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

# An nginx that no unit has: an init script's, or one that was started by hand. Its configuration is remembered.
stop_masters() {
    local pid
    [ ! -x /etc/init.d/nginx ] || service nginx stop >/dev/null 2>&1 || true
    for pid in $(masters); do
        tr '\0' ' ' <"/proc/$pid/cmdline" | sed -n 's/.* -c \([^ ]*\).*/\1/p' >>"$KEPT/nginx-confs"
        kill -QUIT "$pid" 2>/dev/null || true
        soon 10 test ! -d "/proc/$pid" || kill -TERM "$pid" 2>/dev/null || true
        soon 10 test ! -d "/proc/$pid" || die "nginx, process $pid, doesn't end: it would go on writing logs"
        ok "nginx, process $pid, has ended"
    done
}

clean() {
    local unit
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
            for unit in asg-agent.service nginx.service rsyslog.service syslog.socket crond.service cron.service; do
                ! systemctl -q is-active "$unit" || systemctl stop "$unit"
            done
            stop_masters
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
    prove_walk
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
    [ -z "$ROOT" ] || in_root "$ROOT" "$verb" ${rest[@]+"${rest[@]}"}
    "$verb"
}
main "$@"
