# shellcheck shell=bash disable=SC2034 # variables and functions of the other parts
# What image, rollback and prune share: how they speak, how they call AWS, and what happens when they end. Read by bash
# 3.2 as well: an array that may be empty is written ${a[@]+"${a[@]}"}, and there is no declare -A, mapfile or ${a,,}.

POLL=${AMI_BAKE_POLL:-5}  # seconds between two looks at something that takes its time
PATIENCE=${AMI_BAKE_PATIENCE:-240}  # looks before giving up: 20 minutes
RUN=$(date -u +%Y%m%dT%H%M%SZ)-$(od -An -N4 -tx1 /dev/urandom | tr -d ' \n')
RUN_TAG=ami-bake:run        # on everything that a run makes
NAME_TAG=ami-bake:name      # on images, those of prune
TESTED_TAG=ami-bake:tested  # on images that booted and answered
OUT=                        # what the last call said, JSON

say() { printf 'ami-bake: %s\n' "$*" >&2; }

# Ends the run; what it made is removed by the trap.
die() {
    say "$*"
    exit 1
}

opt() {
    local name=OPT_${1//-/_}
    printf '%s' "${!name:-}"
}
asked() { [ -n "$(opt "$1")" ]; }

# The SHA-256 of what comes in; macOS names the program otherwise.
sha256() {
    if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi | cut -c 1-64
}

# One call of AWS; its JSON is in OUT. It ends the run when it fails.
call() {
    attempt "$@" || die "aws $1 $2 failed: $(complaint)"
}

# One call of AWS that may fail.
attempt() {
    OUT=$(aws "$@" --output json 2>"$SCRATCH/err")
}

# What the last call complained of, in one line.
complaint() { tr -s '\n' ' ' <"$SCRATCH/err" | cut -c 1-600; }

# A value out of the last answer; an empty string where there is none.
pick() { jq -r "${@:1:$#-1}" "${!#} // empty" <<<"$OUT"; }

# field VARIABLE KEY: the string of a key that the last answer has once. A quote inside of a string is written \", so that
# no text can pass for a key; a tenth of the time of pick, for what is asked often.
field() {
    local pattern="\"$2\": ?\"([^\"]*)\""
    if [[ $OUT =~ $pattern ]]; then printf -v "$1" %s "${BASH_REMATCH[1]}"; else printf -v "$1" ''; fi
}

# Looks again and again, until a command says yes (0) or that it never will (anything above 1).
# until_true WHAT COMMAND…
until_true() {
    local what=$1 looks=0 answer
    shift
    while :; do
        answer=0
        "$@" || answer=$?
        [ "$answer" -ne 0 ] || return 0
        [ "$answer" -eq 1 ] || return "$answer"
        looks=$((looks + 1))
        if [ "$looks" -ge "$PATIENCE" ]; then
            say "gave up after $looks looks: $what"
            return 2
        fi
        sleep "$POLL"
    done
}

# Prepares for calls, and for the end, whichever it is.
begin() {
    local tool
    for tool in aws jq gzip base64 od; do
        command -v "$tool" >/dev/null || wrong "$tool is not installed"
    done
    command -v sha256sum >/dev/null || command -v shasum >/dev/null || wrong "sha256sum is not installed"
    export AWS_PAGER=
    if asked region; then
        AWS_REGION=$(opt region)
        AWS_DEFAULT_REGION=$AWS_REGION
        export AWS_REGION AWS_DEFAULT_REGION
    fi
    SCRATCH=$(mktemp -d)
    trap finish EXIT
    trap 'say "interrupted"; exit 130' INT
    trap 'say "ended by SIGTERM"; exit 143' TERM
    trap 'say "the terminal is gone"; exit 129' HUP
}

# At the end of every run: what it made is removed, unless it was completed. A second Ctrl-C doesn't stop that.
finish() {
    local code=$?
    trap '' INT TERM HUP
    set +e
    undo_publish || code=1
    [ "$MADE_ANYTHING" = no ] || remove_run "$RUN" || code=1
    rm -rf "$SCRATCH"
    exit "$code"
}
MADE_ANYTHING=no
KEEP_IMAGE=  # the image of a completed run stays
