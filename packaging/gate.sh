# shellcheck shell=bash disable=SC2034 # who sources this reads it
# One promise, checked and printed with what was found; `failed` is 1 once one wasn't kept.
failed=0

gate() { # NAME FOUND EXPECTED
    if [ "$2" = "$3" ]; then
        printf '  ok   %-33s %s\n' "$1" "$2"
    else
        printf '  FAIL %-33s %s, expected %s\n' "$1" "$2" "$3" >&2
        failed=1
    fi
}
