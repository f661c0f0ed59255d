#!/bin/sh
# Lets nginx hand /health to the agent: files of ours beside its own, tested before nginx reads them, taken back when
# nginx refuses them. A file that isn't ours is edited only where --nginx-conf names it, after a copy was made. No
# request that a site answers today is taken from it: a server of ours is never the default one of its port.
set -eu

usage() {
    cat <<'END'
nginx-setup install                   write conf.d/zz-asg-agent.conf (and default.d/asg-agent.conf where the default
                                      server includes those), test, reload
nginx-setup install --nginx-conf FILE the same for an nginx built from source: FILE gets one include line, and is
                                      kept as FILE.before-asg-agent
nginx-setup remove [--nginx-conf FILE]  undo that (without FILE: everywhere it was done), test, reload
nginx-setup print                     show what install would write
nginx-setup instance                  let nginx add X-Instance-Id with this instance's id, in a file of its own beside ours
                                      (install does it too, and every boot); not where a configuration names that
                                      header itself, nor where a file of that name that isn't ours forbids it
Options: --nginx PROGRAM (else the one on PATH, or beside FILE), --port PORT (else 80)
Exit codes: 0 done, 1 nginx refused it and all is as before, 2 wrong usage, 3 no nginx, or no place that is
fit: what to add by hand is printed, 4 a file there isn't ours
END
}

say() { printf 'nginx-setup: %s\n' "$*"; }
fail() { # CODE MESSAGE
    code=$1
    shift
    printf 'nginx-setup: %s\n' "$*" >&2
    exit "$code"
}

here=/usr/share/asg-agent/nginx
[ -e "$here/http.conf" ] || here=$(dirname "$0")
wired=/var/lib/asg-agent/nginx-confs
marker='# asg-agent'
verb=
file=
program=
named=
port=80
while [ $# -gt 0 ]; do
    case $1 in
        install | remove | print | instance) verb=$1 ;;
        --nginx-conf) file=${2:?--nginx-conf needs a file} && shift ;;
        --nginx-conf=*) file=${1#*=} ;;
        --nginx) program=${2:?--nginx needs a program} && shift ;;
        --nginx=*) program=${1#*=} ;;
        --port) port=${2:?--port needs a number} && shift ;;
        --port=*) port=${1#*=} ;;
        -h | --help) usage && exit 0 ;;
        *) usage >&2 && exit 2 ;;
    esac
    shift
done
[ -n "$verb" ] || { usage >&2 && exit 2; }
case $port in '' | *[!0-9]*) fail 2 "--port $port: write a number" ;; esac
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# Sets `program`, `main` (nginx's configuration) and `built` (what it was built with).
find_nginx() {
    if [ -z "$program" ] && [ -n "$file" ]; then
        beside=$(dirname "$(dirname "$file")")/sbin/nginx # /opt/nginx/conf/nginx.conf, /opt/nginx/sbin/nginx
        [ ! -x "$beside" ] || program=$beside
    fi
    [ -n "$program" ] || program=$(command -v nginx) || return 1
    built=$("$program" -V 2>&1) || return 1
    main=$file
    [ -n "$main" ] || main=$(option --conf-path) || main=$(option --prefix)/conf/nginx.conf
    [ -f "$main" ]
}

option() { # NAME: what nginx was built with
    # shellcheck disable=SC2086 # words are wanted
    for word in $built; do
        case $word in "$1="*) printf '%s\n' "${word#*=}" | tr -d "'" && return 0 ;; esac
    done
    return 1
}

# What is written, fit for this nginx: `server` (all of it), `http` (what goes beside a location), `location`, or
# `instance` (the header).
ours() {
    what=$1
    set -- -e "s/listen 80;/listen $port;/"
    # Many nginx built from source lack the module that knows the peer's own address.
    # shellcheck disable=SC2016 # nginx's variables, not ours
    case $built in
        *http_realip_module*) ;;
        *) set -- "$@" -e 's/\$realip_remote_addr/$remote_addr/' ;;
    esac
    # A relative log lies below nginx's prefix.
    [ -z "$file" ] || set -- "$@" -e 's| /var/log/nginx/access.log | logs/access.log |'
    case $what in
        instance) set -- -e "s/INSTANCE/$id/" ;;
    esac
    case $what in
        instance) cat "$here/instance.conf" ;;
        server)
            cat "$here/http.conf" && echo && inlined
            # A pattern, which may match no file.
            [ -z "$file" ] || printf 'include %s;\n' "$(dirname "$file")/asg-agent-instance[.]conf"
            ;;
        http) cat "$here/http.conf" ;;
        location) cat "$here/health.conf" ;;
    esac | sed "$@"
}

# The server with its location in it.
inlined() {
    while IFS= read -r line; do
        case $line in
            *'# HEALTH') sed -e 1d -e 's/^/    /' "$here/health.conf" ;;
            *) printf '%s\n' "$line" ;;
        esac
    done <"$here/probes.conf"
}

includes() { # FOLDER: whether the main file includes the .conf files of this folder beside it
    grep -Eq "^[[:space:]]*include[[:space:]]+[\"']?([^;]*/)?$1/\*(\.conf)?[\"']?;" "$main"
}

# What fits: `location` where the default server includes default.d (Amazon Linux, Fedora); `server` where ours would
# not be the first of its port, which nginx makes the default one: there is a default_server, or all servers stand in
# conf.d, where zz- comes last.
fit() {
    includes conf.d || return 1
    if includes default\\.d; then
        echo location
        return 0
    fi
    "$program" -T -c "$main" 2>/dev/null | awk -v port="$port" -v ours="$(dirname "$main")/conf.d/" '
        /^# configuration file / { name = $4; next }
        /^[[:space:]]*listen[^#]*default_server/ { fits = 1 }
        /^[[:space:]]*server[[:space:]]*(\{|$)/ && index(name, ours) != 1 { others = 1 }
        END { exit !(fits || !others) }' && echo server
}

test_conf() { "$program" -t -c "$main" 2>&1; }

is_ours() { head -n 1 "$1" | grep -q "^$marker"; }

# The master that the pid file names, if it runs this program: the number alone may be anybody's by now.
master() {
    pid_file=$("$program" -T -c "$main" 2>/dev/null | sed 's/#.*//' | tr ';{}' '[\n*]' |
        sed -n 's/^[[:space:]]*pid[[:space:]]\{1,\}//p' | head -n 1)
    [ -n "$pid_file" ] || pid_file=$(option --pid-path) || pid_file=logs/nginx.pid
    case $pid_file in /*) ;; *) pid_file=$(option --prefix || echo /usr/local/nginx)/$pid_file ;; esac
    pid=$(head -c 20 "$pid_file" 2>/dev/null) || return 1
    case $pid in '' | *[!0-9]*) return 1 ;; esac
    exe=$(readlink "/proc/$pid/exe") || return 1
    [ "${exe% (deleted)}" = "$(readlink -f "$program")" ] && printf '%s\n' "$pid"
}

# Reloads, and waits until no worker of before takes connections. A configuration that passed the test may still be
# refused then (an address that is taken): the workers stay.
reload() {
    pid=$(master) || {
        say "nginx doesn't run: it reads this when it starts"
        return 0
    }
    before_them=$(pgrep -P "$pid" 2>/dev/null) || before_them=
    kill -HUP "$pid" || return 1
    tries=0
    while takes_connections; do
        tries=$((tries + 1))
        [ "$tries" -lt 100 ] || return 1
        sleep 0.1
    done
    say "nginx $pid reloaded"
}

takes_connections() {
    for worker in $before_them; do
        title=$(tr '\0' ' ' 2>/dev/null <"/proc/$worker/cmdline") || continue
        case $title in
            *'shutting down'*) ;;
            *'worker process'*) return 0 ;;
        esac
    done
    return 1
}

# Tests what is there now, and reloads; when nginx refuses it, calls the function named to undo it.
accept_or() { # UNDO WHAT
    if said=$(test_conf); then
        if reload; then
            return 0
        fi
        said="its workers did not change; its error log says why"
        "$1"
        ! test_conf >/dev/null || reload || true
    else
        "$1"
    fi
    printf '%s\n' "$said" >&2
    fail 1 "nginx refuses $2; all is as before"
}

write() { # FROM-STDIN TO, as a whole or not at all; conf.d's pattern doesn't match the name it has until then
    cat >"$1.new"
    chmod 644 "$1.new"
    mv -f "$1.new" "$1"
}

manual() {
    cat >&2 <<END
nginx-setup: $1
By hand: put what \`$0 print\` shows into a file, and include it at the end of nginx's http block:
    include /THAT/FILE;
or let this do it, after making a copy:
    $0 install --nginx-conf ${main:-/opt/nginx/conf/nginx.conf}
END
    exit 3
}

# Writes ours to a place, with what was there before beside it as .old.
put() { # KIND PLACE
    if [ -e "$2" ]; then
        is_ours "$2" || fail 4 "$2 is there and isn't ours"
        cp -p "$2" "$2.old"
    fi
    ours "$1" | write "$2"
}

is_as_it_should_be() { # KIND PLACE
    [ -e "$2" ] && is_ours "$2" && ours "$1" | cmp -s - "$2"
}

take_back() {
    for one in "$place" ${second:+"$second"} ${named:+"$named"}; do
        if [ -e "$one.old" ]; then mv -f "$one.old" "$one"; else rm -f "$one"; fi
    done
}

check_first() {
    said=$(test_conf) || {
        printf '%s\n' "$said" >&2
        fail 1 "nginx refuses its configuration as it is; nothing was touched"
    }
}

# Sets `place`, and `second` where there are two.
places() {
    place=$(dirname "$main")/conf.d/zz-asg-agent.conf
    second=
    ! includes default\\.d || second=$(dirname "$main")/default.d/asg-agent.conf
}

# ---- the header

# i-…, as the kernel shows it on Nitro instances; on Xen the metadata service is asked, within a few seconds.
instance_id() {
    is_id='i-[0-9a-f]{8,17}'
    tag=${AGENT_IDENTITY_HARDWARE:-/sys/devices/virtual/dmi/id/board_asset_tag}
    ! head -c 64 "$tag" 2>/dev/null | grep -Ex "$is_id" || return 0
    [ -n "${AGENT_IDENTITY_ENDPOINT:-}" ] || grep -qi '^ec2' /sys/hypervisor/uuid 2>/dev/null || return 1
    url=${AGENT_IDENTITY_ENDPOINT:-http://169.254.169.254}/latest
    token=$(curl -fs -m 3 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' "$url/api/token") || return 1
    curl -fs -m 3 -H "X-aws-ec2-metadata-token: $token" "$url/meta-data/instance-id" | grep -Ex "$is_id"
}

# Whether a configuration that isn't ours speaks of the header: to add it twice would be worse.
others_name_it() {
    "$program" -T -c "$main" 2>/dev/null | awk '
        /^# configuration file / { ours = $0 ~ /asg-agent(-instance)?\.conf:$/; next }
        { sub(/#.*/, "") }
        !ours && tolower($0) ~ /x-instance-id/ { found = 1 }
        END { exit !found }'
}

# Beside `place`, which is installed. nginx adds a header of the http block where no block below adds one of its own: no
# header of anybody goes. An id that can't be told, or isn't wanted, leaves no file: never that of another instance.
name_instance() {
    place=${place%.conf}-instance.conf
    if [ -e "$place" ] && ! is_ours "$place"; then
        say "$place isn't ours: left as it is"
        return 0
    fi
    id=$(instance_id) || id=
    case $built in *--without-http_map_module*) id= ;; esac
    if [ -z "$id" ] || others_name_it; then
        [ -e "$place" ] || return 0
        rm -f "$place"
        accept_or no_name "its configuration without $place"
        say "removed $place"
        return 0
    fi
    ! is_as_it_should_be instance "$place" || return 0
    ours instance | write "$place"
    accept_or no_name "$place"
    say "nginx says which instance this is: X-Instance-Id: $id"
}
no_name() { rm -f "$place"; }

# Adds it where it can: what ours does besides doesn't depend on it.
try_name() { (name_instance) || say "nginx adds no X-Instance-Id"; }

name_everywhere() {
    if [ -e "$wired" ]; then
        while IFS= read -r file; do
            program=$given
            place=$(dirname "$file")/asg-agent.conf
            if [ -e "$place" ] && is_ours "$place" && find_nginx; then try_name; fi
        done <"$wired"
    fi
    file=
    program=$given
    find_nginx || return 0
    places
    if [ -e "$place" ] && is_ours "$place"; then try_name; fi
}

# ---- install and remove

install_conf_d() {
    find_nginx || manual "no nginx was found"
    check_first
    kind=$(fit) || manual "in $main there is no place of which it is sure that no site loses a request"
    places
    http=$kind
    [ -z "$second" ] || http=http
    if is_as_it_should_be "$http" "$place" && { [ -z "$second" ] || is_as_it_should_be location "$second"; }; then
        say "$place is as it should be"
        try_name
        return 0
    fi
    mkdir -p "$(dirname "$place")" ${second:+"$(dirname "$second")"}
    [ ! -e "$place" ] || is_ours "$place" || fail 4 "$place is there and isn't ours"
    [ -z "$second" ] || put location "$second"
    put "$http" "$place"
    accept_or take_back "$place"
    rm -f "$place.old" ${second:+"$second.old"}
    say "wrote $place${second:+ and $second}"
    try_name
}

install_into_file() {
    [ -f "$file" ] || fail 2 "$file is no file"
    file=$(readlink -f "$file")
    find_nginx || manual "no nginx was found for $file"
    check_first
    place=$(dirname "$file")/asg-agent.conf
    second=
    before=$file.before-asg-agent
    put server "$place"
    if grep -q "include $place; $marker" "$file"; then
        accept_or take_back "$place"
        say "$file includes $place"
        try_name
        return 0
    fi
    cp -p "$file" "$before"
    # At the end of the http block: the first server of a port is its default one.
    awk -v line="    include $place; $marker" '
        {
            text = $0
            sub(/#.*/, "", text)
            if (!inside && text ~ /^[[:space:]]*http[[:space:]]*(\{|$)/) { inside = 1; depth = 0; opened = 0 }
            if (inside) {
                opened += gsub(/\{/, "", text)
                depth = opened - (closed += gsub(/\}/, "", text))
                if (opened && depth == 0) { print line; inside = 0; done = 1 }
            }
            print
        }
        END { exit !done }' "$before" >"$file.new" || {
        rm -f "$file.new"
        take_back
        rm -f "$before"
        fail 3 "where the http block of $file ends can't be told; add at its end: include $place;"
    }
    # Not mv: owner, mode and label stay.
    cat "$file.new" >"$file"
    rm -f "$file.new"
    undo_file() {
        cat "$before" >"$file"
        rm -f "$before"
        take_back
    }
    accept_or undo_file "$place, included from $file"
    rm -f "$place.old"
    mkdir -p "$(dirname "$wired")"
    grep -qxF "$file" "$wired" 2>/dev/null || printf '%s\n' "$file" >>"$wired"
    say "$file includes $place; as it was: $before"
    try_name
}

remove_from_file() {
    file=$1
    find_nginx || { say "no nginx for $file: left as it is" && return 0; }
    place=$(dirname "$file")/asg-agent.conf
    cp -p "$file" "$file.with-asg-agent"
    grep -v "include $place; $marker\$" "$file.with-asg-agent" | write_through "$file"
    # shellcheck disable=SC2317 # called by name
    put_back() {
        cat "$file.with-asg-agent" >"$file"
        rm -f "$file.with-asg-agent"
    }
    accept_or put_back "$file without $place"
    rm -f "$place" "$place.old" "${place%.conf}-instance.conf" "$file.with-asg-agent"
    if cmp -s "$file" "$file.before-asg-agent"; then rm -f "$file.before-asg-agent"; fi
    if [ -e "$wired" ]; then
        grep -vxF "$file" "$wired" >"$wired.new" || true
        mv -f "$wired.new" "$wired"
        [ -s "$wired" ] || rm -f "$wired"
    fi
    say "$file is free of us"
}

write_through() { # FROM-STDIN INTO, keeping the file itself
    cat >"$1.new"
    cat "$1.new" >"$1"
    rm -f "$1.new"
}

remove_conf_d() {
    file=
    program=$given
    find_nginx || return 0
    places
    [ -e "$place" ] || [ -e "${second:-$place}" ] || return 0
    for one in "$place" ${second:+"$second"}; do
        [ ! -e "$one" ] || is_ours "$one" || fail 4 "$one isn't ours: left as it is"
    done
    # One that isn't ours is somebody's wish to have no header.
    named=${place%.conf}-instance.conf
    [ -e "$named" ] && is_ours "$named" || named=
    for one in "$place" ${second:+"$second"} ${named:+"$named"}; do
        [ ! -e "$one" ] || mv -f "$one" "$one.old"
    done
    accept_or take_back "its configuration without $place"
    rm -f "$place.old" ${second:+"$second.old"} ${named:+"$named.old"}
    say "removed $place${second:+ and $second}"
}

given=$program
case $verb in
    print)
        find_nginx || built=http_realip_module
        ours server
        ;;
    install)
        if [ -n "$file" ]; then install_into_file; else install_conf_d; fi
        ;;
    instance) name_everywhere ;;
    remove)
        if [ -n "$file" ]; then
            remove_from_file "$(readlink -f "$file")"
            exit 0
        fi
        if [ -e "$wired" ]; then
            # Each in a shell of its own: one that fails keeps no other.
            while IFS= read -r one; do
                [ ! -f "$one" ] || (program=$given && remove_from_file "$one") || true
            done <"$wired"
        fi
        remove_conf_d
        ;;
esac
