#!/bin/sh
# Lets nginx hand /health to the agent: one file of ours in nginx's conf.d, tested before nginx reads it, taken back
# when nginx refuses it. A file that isn't ours is edited only where --nginx-conf names it, after a copy was made.
set -eu

usage() {
    cat <<'END'
nginx-setup install                   write conf.d/asg-agent.conf, test, reload
nginx-setup install --nginx-conf FILE the same for an nginx built from source: FILE gets one include line, and is
                                      kept as FILE.before-asg-agent
nginx-setup remove [--nginx-conf FILE]  undo that (without FILE: everywhere it was done), test, reload
nginx-setup print                     show what install would write
Options: --nginx PROGRAM (else the one on PATH, or beside FILE), --port PORT (else 80)
Exit codes: 0 done, 1 nginx refused it and all is as before, 2 wrong usage, 3 no nginx or no conf.d, 4 a file there
isn't ours
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
[ -e "$here/asg-agent.conf" ] || here=$(dirname "$0")
wired=/var/lib/asg-agent/nginx-confs
marker='# asg-agent'
verb=
file=
program=
port=80
while [ $# -gt 0 ]; do
    case $1 in
        install | remove | print) verb=$1 ;;
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

# What is written, fit for this nginx.
ours() {
    set -- -e "s/listen 80;/listen $port;/"
    # Many nginx built from source lack the module that knows the peer's own address.
    # shellcheck disable=SC2016 # nginx's variables, not ours
    case $built in
        *http_realip_module*) ;;
        *) set -- "$@" -e 's/\$realip_remote_addr/$remote_addr/' ;;
    esac
    # A relative log lies below nginx's prefix.
    [ -z "$file" ] || set -- "$@" -e 's| /var/log/nginx/access.log | logs/access.log |'
    sed "$@" "$here/asg-agent.conf"
}

conf_d() {
    grep -Eq '^[[:space:]]*include[[:space:]]+[^;]*conf\.d/\*(\.conf)?["'\'']?;' "$main" || return 1
    dirname "$main" | sed 's|$|/conf.d|'
}

test_conf() { "$program" -t -c "$main" 2>&1; }

is_ours() { head -n 1 "$1" | grep -q "^$marker"; }

# The master that the pid file names, if it runs this program: the number alone may be anybody's by now.
master() {
    pid_file=$("$program" -T -c "$main" 2>/dev/null | sed -n 's/^[[:space:]]*pid[[:space:]]\{1,\}\([^;]*\);.*/\1/p' | head -n 1)
    [ -n "$pid_file" ] || pid_file=$(option --pid-path) || pid_file=logs/nginx.pid
    case $pid_file in /*) ;; *) pid_file=$(option --prefix || echo /usr/local/nginx)/$pid_file ;; esac
    pid=$(head -c 20 "$pid_file" 2>/dev/null) || return 1
    case $pid in '' | *[!0-9]*) return 1 ;; esac
    exe=$(readlink "/proc/$pid/exe") || return 1
    [ "${exe% (deleted)}" = "$(readlink -f "$program")" ] && printf '%s\n' "$pid"
}

reload() {
    pid=$(master) || {
        say "nginx doesn't run: it reads this when it starts"
        return 0
    }
    kill -HUP "$pid" && say "nginx $pid reloads"
}

# Tests what is there now; when nginx refuses it, calls the function named to undo it.
accept_or() { # UNDO WHAT
    if said=$(test_conf); then
        reload
        return 0
    fi
    "$1"
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
To wire it by hand, put what \`$0 print\` shows into a file and add to nginx's http block:
    include /THAT/FILE;
or let this do it, after making a copy:
    $0 install --nginx-conf ${main:-/opt/nginx/conf/nginx.conf}
END
    exit 3
}

# Puts our file at $place; sets `old` to what was there.
put_ours() {
    old=
    if [ -e "$place" ]; then
        is_ours "$place" || fail 4 "$place is there and isn't ours"
        if ours | cmp -s - "$place"; then
            return 0
        fi
        old=$place.old
        cp -p "$place" "$old"
    fi
    ours | write "$place"
}

take_back() {
    if [ -n "$old" ]; then mv -f "$old" "$place"; else rm -f "$place"; fi
}

check_first() {
    said=$(test_conf) || {
        printf '%s\n' "$said" >&2
        fail 1 "nginx refuses its configuration as it is; nothing was touched"
    }
}

install_conf_d() {
    find_nginx || manual "no nginx was found"
    folder=$(conf_d) || manual "$main includes no conf.d"
    check_first
    [ -d "$folder" ] || mkdir -p "$folder"
    place=$folder/asg-agent.conf
    if [ -e "$place" ] && is_ours "$place" && ours | cmp -s - "$place"; then
        say "$place is as it should be"
        return 0
    fi
    put_ours
    accept_or take_back "$place"
    say "wrote $place"
}

install_into_file() {
    [ -f "$file" ] || fail 2 "$file is no file"
    file=$(readlink -f "$file")
    find_nginx || manual "no nginx was found for $file"
    check_first
    place=$(dirname "$file")/asg-agent.conf
    before=$file.before-asg-agent
    put_ours
    if grep -q "include $place; $marker" "$file"; then
        accept_or take_back "$place"
        say "$file includes $place"
        return 0
    fi
    cp -p "$file" "$before"
    awk -v line="    include $place; $marker" '
        { print }
        !done && /^[[:space:]]*http[[:space:]]*\{/ { print line; done = 1 }
        END { exit !done }' "$before" >"$file.new" || {
        rm -f "$file.new"
        take_back
        rm -f "$before"
        fail 3 "$file has no line that begins its http block; add inside of it: include $place;"
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
    mkdir -p "$(dirname "$wired")"
    grep -qxF "$file" "$wired" 2>/dev/null || printf '%s\n' "$file" >>"$wired"
    say "$file includes $place; as it was: $before"
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
    rm -f "$place" "$place.old" "$file.with-asg-agent"
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
    folder=$(conf_d) || return 0
    place=$folder/asg-agent.conf
    [ -e "$place" ] || return 0
    is_ours "$place" || fail 4 "$place isn't ours: left as it is"
    mv -f "$place" "$place.removed"
    put_back() { mv -f "$place.removed" "$place"; }
    accept_or put_back "its configuration without $place"
    rm -f "$place.removed" "$place.old"
    say "removed $place"
}

given=$program
case $verb in
    print)
        find_nginx || built=http_realip_module
        ours
        ;;
    install)
        if [ -n "$file" ]; then install_into_file; else install_conf_d; fi
        ;;
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
