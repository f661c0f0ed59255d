# shellcheck shell=bash disable=SC2034,SC2153 # variables and functions of the other parts
# Instances that live for one run, and what is done on them over SSM.

INSTANCE=  # the one that was launched last
ORPHAN_MINUTES=120  # an instance that nobody ends shuts itself down, and with that terminates

# The tags that everything gets as well: --tags team=web,stage=test. In the command line's shorthand a comma or a brace
# would begin something else, and a tag of ours is not to be forged.
TAGS=()
check_tags() {
    local pair rest pattern='^[A-Za-z0-9_.:/+@-]+=[A-Za-z0-9_.:/+@ -]*$'
    rest=$(opt tags)
    while [ -n "$rest" ]; do
        pair=${rest%%,*}
        case $rest in *,*) rest=${rest#*,} ;; *) rest='' ;; esac
        [[ $pair =~ $pattern ]] || wrong "--tags wants KEY=VALUE,KEY=VALUE, not $pair"
        case $pair in
            Name=* | ami-bake:* | aws:*) wrong "--tags can't set ${pair%%=*}" ;;
        esac
        TAGS+=("$pair")
    done
}

# Tags of this run: tags TYPE NAME [KEY=VALUE…]
tags() {
    local type=$1 pair all="{Key=Name,Value=$2},{Key=$RUN_TAG,Value=$RUN}"
    shift 2
    for pair in "$@" ${TAGS[@]+"${TAGS[@]}"}; do
        all+=",{Key=${pair%%=*},Value=${pair#*=}}"
    done
    printf 'ResourceType=%s,Tags=[%s]' "$type" "$all"
}

# Launches an instance: launch WHAT IMAGE [MORE-FLAGS…]
launch() {
    local what=$1 image=$2
    shift 2
    # Whatever happens to this script, the instance doesn't outlive its use.
    printf '#!/bin/sh\nshutdown -P +%s\n' "$ORPHAN_MINUTES" >"$SCRATCH/user-data"
    say "launching the $what: $TYPE from $image in $SUBNET"
    LAUNCHING=yes
    call ec2 run-instances --image-id "$image" --instance-type "$TYPE" --count 1 --client-token "$RUN-$what" \
        --subnet-id "$SUBNET" --security-group-ids "$GROUP" --iam-instance-profile "Name=$PROFILE" \
        --metadata-options HttpEndpoint=enabled,HttpTokens=required,HttpPutResponseHopLimit=1 \
        --instance-initiated-shutdown-behavior terminate --user-data "file://$SCRATCH/user-data" \
        --tag-specifications "$(tags instance "$RUN-$what")" "$(tags volume "$RUN-$what")" "$@"
    field INSTANCE InstanceId
    [ -n "$INSTANCE" ] || die "run-instances named no instance"
    LAUNCHING=no
}

instance_is() {
    local state
    attempt ec2 describe-instances --instance-ids "$1" || return 2
    state=$(pick '.Reservations[0].Instances[0].State.Name')
    [ "$state" = "$2" ] && return 0
    case $2:$state in
        stopped:terminated | stopped:shutting-down) return 3 ;; # it will never stop
    esac
    return 1
}

stop_instance() {
    say "stopping $1"
    call ec2 stop-instances --instance-ids "$1"
    until_true "$1 to stop" instance_is "$1" stopped || die "$1 did not stop: $(complaint)"
}

terminate_instance() {
    call ec2 terminate-instances --instance-ids "$1"
}

# Yes once SSM has taken the command in $SCRATCH/step; not yet while the instance isn't registered.
step_sent() {
    attempt ssm send-command --instance-ids "$INSTANCE" --document-name AWS-RunShellScript \
        --comment "ami-bake $RUN" --timeout-seconds 120 --parameters "file://$SCRATCH/step" && return 0
    grep -q InvalidInstanceId "$SCRATCH/err" && return 1
    return 2
}

# Yes once the command has ended, whichever way.
step_ended() {
    if ! attempt ssm get-command-invocation --command-id "$1" --instance-id "$INSTANCE"; then
        grep -q InvocationDoesNotExist "$SCRATCH/err" && return 1
        return 2
    fi
    field STATUS Status
    case $STATUS in
        Pending | InProgress | Delayed) return 1 ;;
    esac
}

# Runs packaging/bake/instance.sh on the instance: step SECONDS VERB [ARGUMENTS…]
# The script travels in the command (a document is 64 KB at most, this is about a tenth of it) and lies in /run there,
# which no image has.
step() {
    local limit=$1 script id line words=''
    shift
    script=$(gzip -9n <"$PARTS/instance.sh" | base64 | tr -d '\n')
    # As JSON: of what stands in it only the words can hold a backslash or a quote.
    words=$(printf '%q ' "$@" | sed 's/[\\"]/\\&/g')
    printf '{"executionTimeout": ["%s"], "commands": ["set -eu", "umask 077", "mkdir -p /run/ami-bake",
        "echo %s | base64 -d | gzip -d >/run/ami-bake/instance.sh",
        "exec bash /run/ami-bake/instance.sh %s"]}' "$limit" "$script" "$words" >"$SCRATCH/step"
    # Not the arguments of install: a signed URL is among them.
    if [ "$1" = install ]; then say "on $INSTANCE: $1"; else say "on $INSTANCE: $*"; fi
    until_true "$INSTANCE to register with SSM" step_sent ||
        die "$INSTANCE takes no command over SSM: $(complaint)"
    field id CommandId
    until_true "$1 on $INSTANCE" step_ended "$id" || die "$1 on $INSTANCE: $(complaint)"
    pick .StandardOutputContent >"$SCRATCH/said"
    while IFS= read -r line; do
        [ -z "$line" ] || printf '    %s\n' "$line" >&2
    done <"$SCRATCH/said"
    [ "$STATUS" = Success ] || die "$1 on $INSTANCE ended as $STATUS: $(pick .StandardErrorContent | tail -n 5)"
}
