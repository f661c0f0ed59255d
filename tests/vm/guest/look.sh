#!/bin/sh
# look.sh IMAGE: the state folder as a power cut has left it. Says one line, and fails where it is not as it must be.
state=/var/lib/asg-agent
fail() {
    echo "WRONG: $*"
    exit 1
}
mount -o loop "$1" "$state" || fail "it cannot be mounted"
trap 'umount "$state"' EXIT
record=none
if [ -e "$state/fault.json" ]; then
    record=$(jq -r '.mode + " " + .phase' "$state/fault.json" 2>&1) || fail "half a record: $record"
fi
[ -n "$record" ] || fail "an empty record"
said=$(agent status 2>&1) || [ $? -eq 1 ] || fail "agent status: $said"
said=$(agent recover 2>&1) || fail "agent recover: $said"
left=$(find "$state" -mindepth 1 -maxdepth 1 ! -name serve ! -name lost+found -printf '%f ')
[ -z "$left" ] || fail "left: $left"
echo "$record: $said" | tr '\n' ' '
