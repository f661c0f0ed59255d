#!/bin/sh
# judge.sh ID: waits, four minutes at most, until the machine has come to rest, and says how it is: a line for
# each fact. ID names the fault that was going on.
code() { curl -s -o /dev/null -m 5 -w '%{http_code}' "$1"; }
now() { cut -d . -f 1 /proc/uptime; }
rests() {
    [ ! -e /var/lib/asg-agent/fault.json ] && [ "$(code http://127.0.0.1/)" = 200 ] &&
        [ "$(code http://127.0.0.1:8080/health)" = 200 ] && [ -z "$(systemctl list-jobs --no-legend)" ]
}
end=$(($(now) + 240))
until rests; do
    [ "$(now)" -lt "$end" ] || break
    sleep 0.2
done
# words KEY: the words on stdin as one line.
words() { echo "$1=$(xargs)"; }
code http://127.0.0.1/ | words nginx
code http://127.0.0.1:8080/health | words health
find /var/lib/asg-agent -mindepth 1 -maxdepth 1 ! -name serve -printf '%f\n' | words left
pgrep -x agent | grep -vx "$(systemctl show -P MainPID asg-agent)" | words agents
systemctl list-units --all --plain --no-legend 'asg-agent-fault*' | words leases
nft list ruleset | words rules
systemctl list-units --failed --plain --no-legend | words failed
systemctl is-active nginx asg-agent | words units
jq -rn --arg id "$1" '[inputs | select(.id == $id and .event == "recovered") | .detail] | join(", ")' \
    /var/log/asg-agent/faults.jsonl | words ended
now | words uptime
sed 's/^/watch=/' /run/lab.watch
