# shellcheck shell=bash disable=SC2016,SC2034,SC2153,SC2154 # variables and functions of the other parts; $ in jq
# acceptance: the whole tutorial in a real account, from the bake to a group that scales and heals, and all of it removed
# again, whatever ends it. Everything has the tag of the run, and the proof that nothing is left is asked by that tag.

CHILD=           # a script of ours that is at work
STACKS=''        # stacks that this run may have made, newest first
BAKED_BY=        # the run that made the image
LEFT=            # what of this run is still there
SUSPENDED=no     # the group may not replace unhealthy instances

# Runs a verb of this script: its stdout is in SAID. Waited for in the background, so that a signal is heard at once.
verb_of_ours() {
    bash "$HERE/ami-bake.sh" "$@" >"$SCRATCH/verb" &
    CHILD=$!
    local code=0
    wait "$CHILD" || code=$?
    CHILD=
    SAID=$(cat "$SCRATCH/verb")
    return "$code"
}

# record STEP OK SECONDS [JSON]: a line of the report.
record() {
    local json=${4:-}
    [ -n "$json" ] && jq -e . >/dev/null 2>&1 <<<"$json" || json=null
    jq -nc --arg step "$1" --arg ok "$2" --argjson seconds "$3" --argjson result "$json" \
        '{step: $step, ok: ($ok == "yes"), seconds: $seconds, result: $result}' >>"$SCRATCH/steps"
    say "$1: $([ "$2" = yes ] && echo ok || echo FAILED), $3 s"
}
# part NAME COMMAND…: a step of the report; RESULT may hold its JSON. A part that fails ends the run.
part() {
    local name=$1 begun=$SECONDS code=0
    shift
    RESULT=
    say "$name"
    "$@" || code=$?
    record "$name" "$([ "$code" -eq 0 ] && echo yes || echo no)" $((SECONDS - begun)) "$RESULT"
    [ "$code" -eq 0 ] || die "$name failed${WHY:+: $WHY}"
}

stack_is() { # NAME STATUS: 0 yes, 1 not yet, 2 never
    attempt cloudformation describe-stacks --stack-name "$1" || {
        grep -q 'does not exist' "$SCRATCH/err" && [ "$2" = DELETE_COMPLETE ]
        return $(($? * 2))
    }
    local status
    status=$(pick '.Stacks[0].StackStatus')
    [ "$status" != "$2" ] || return 0
    case $status in
        *_IN_PROGRESS) return 1 ;;
        *) WHY="the stack $1 is $status" && return 2 ;;
    esac
}
make_stack() { # NAME FILE [KEY=VALUE…]
    local name=$1 file=$2 pair parameters=()
    shift 2
    [ $# -eq 0 ] || parameters=(--parameters)
    for pair in "$@"; do
        parameters+=("ParameterKey=${pair%%=*},ParameterValue=${pair#*=}")
    done
    STACKS="$name $STACKS"
    call cloudformation create-stack --stack-name "$name" --capabilities CAPABILITY_NAMED_IAM \
        --template-body "file://$HERE/packaging/aws/$file" --tags "Key=$RUN_TAG,Value=$RUN" \
        ${parameters[@]+"${parameters[@]}"}
    PATIENCE=$((PATIENCE * 2)) until_true "the stack $name" stack_is "$name" CREATE_COMPLETE
}

# The builder's role and bucket: those that are there, or ones of this run.
stack_for_the_bake() {
    attempt iam get-instance-profile --instance-profile-name "$PROFILE" && return 0
    make_stack "ami-bake-$STACK_ID" bake.yaml
}
look_around() { verb_of_ours doctor --rpm "$(opt rpm)" || { WHY=$(grep FAIL <<<"$SAID" | head -n 1) && return 1; }; }
bake_the_image() {
    verb_of_ours image --rpm "$(opt rpm)" --base-ami al2023 --tags "acceptance=$STACK_ID" || return 1
    IMAGE=${SAID%% *}
    call ec2 describe-images --image-ids "$IMAGE"
    # One that was there before this run is not this run's to remove.
    [ -z "$(pick --arg stack "$STACK_ID" '.Images[0].Tags[]? | select(.Key == "acceptance" and .Value == $stack) | .Key')" ] ||
        BAKED_BY=$(pick --arg key "$RUN_TAG" '.Images[0].Tags[] | select(.Key == $key) | .Value')
    RESULT=$(jq -nc --arg image "$IMAGE" '{image: $image}')
}
the_tutorial() {
    call ec2 describe-subnets --filters Name=default-for-az,Values=true
    local subnets vpc
    vpc=$(pick '.Subnets[0].VpcId')
    subnets=$(pick '[.Subnets | sort_by(.AvailabilityZoneId)[].SubnetId][:2] | join("\\,")')
    WEB=ami-bake-web-$STACK_ID
    make_stack "$WEB" autoscaling.yaml "ImageId=$IMAGE" "InstanceType=$TYPE" "VpcId=$vpc" "SubnetIds=$subnets" \
        "ClientCidr=$(opt client-cidr)" || return 1
    call cloudformation describe-stacks --stack-name "$WEB"
    URL=$(pick '.Stacks[0].Outputs[] | select(.OutputKey == "Url") | .OutputValue')
    GROUP_NAME=$(pick '.Stacks[0].Outputs[] | select(.OutputKey == "GroupName") | .OutputValue')
    call cloudformation describe-stack-resources --stack-name "$WEB"
    TARGETS=$(pick '.StackResources[] | select(.LogicalResourceId == "TargetGroup") | .PhysicalResourceId')
}
healthy() {
    attempt elbv2 describe-target-health --target-group-arn "$TARGETS" || return 2
    HEALTHY=$(pick '.TargetHealthDescriptions[] | select(.TargetHealth.State == "healthy") | .Target.Id')
    [ "$(grep -c . <<<"$HEALTHY")" -ge "$1" ]
}
two_healthy() {
    until_true "two healthy targets" healthy 2 || return 1
    RESULT=$(jq -Rnc '[inputs]' <<<"$HEALTHY")
}

# agent_step SECONDS ARGUMENTS…: the command for step_sent; its output is the agent's last line, its code the agent's.
agent_step() {
    jq -nc --arg limit "$1" --arg line "agent ${*:2} --json >/run/ami-bake-said; code=\$?; tail -n 1 /run/ami-bake-said; exit \$code" \
        '{executionTimeout: [$limit], commands: [$line]}' >"$SCRATCH/step"
}
# agent_on INSTANCE SECONDS ARGUMENTS…: that on an instance; the last line of JSON in RESULT.
agent_on() {
    local id
    INSTANCE=$1
    agent_step "${@:2}"
    until_true "$1 to take a command" step_sent || { WHY=$(complaint) && return 1; }
    field id CommandId
    PATIENCE=$((PATIENCE * 2)) until_true "agent $3 on $1" step_ended "$id" || { WHY=$(complaint) && return 1; }
    RESULT=$(pick .StandardOutputContent | tail -n 1)
    jq -e . >/dev/null 2>&1 <<<"$RESULT" || RESULT=
    [ "$STATUS" = Success ] || { WHY="agent ${*:3} on $1 ended as $STATUS: $(pick .StandardErrorContent | tail -n 1)" && return 1; }
}
probes_on_all() {
    local one all='[]'
    for one in $HEALTHY; do
        agent_on "$one" 120 probes --expect 5s --for 60s || return 1
        all=$(jq -c --argjson one "${RESULT:-null}" '. + [$one]' <<<"$all")
    done
    RESULT=$all
}
# Load on every instance until the alarm is certain by the agent's forecast, and how long the group then took.
scales_out() {
    local one first='' forecast begun=$SECONDS
    for one in $HEALTHY; do
        if [ -z "$first" ]; then
            first=$one
            continue
        fi
        # Not waited for: it burns beside the first, and ends by itself.
        agent_step 900 stress --cpu all --secs 14m
        INSTANCE=$one
        until_true "$one to take a command" step_sent || { WHY=$(complaint) && return 1; }
    done
    agent_on "$first" 900 stress --cpu all --until-alarm 50 --secs 14m || return 1
    forecast=$RESULT
    until_true "the group to scale out" has_grown || return 1
    RESULT=$(jq -nc --argjson agent "${forecast:-null}" --argjson s $((SECONDS - begun)) '{forecast: $agent, scaled_out_after_s: $s}')
}
has_grown() {
    attempt autoscaling describe-auto-scaling-groups --auto-scaling-group-names "$GROUP_NAME" || return 2
    [ "$(pick '.AutoScalingGroups[0].DesiredCapacity')" -gt 2 ]
}
# Four ways to fail, on an instance that the group doesn't replace for that.
heals() {
    local mode all='[]' one=${HEALTHY%%[[:space:]]*}
    SUSPENDED=yes
    call autoscaling suspend-processes --auto-scaling-group-name "$GROUP_NAME" --scaling-processes ReplaceUnhealthy
    for mode in stop crash hang error; do
        agent_on "$one" 600 drill failover --url "$URL" --mode "$mode" --secs 60 --interval 5s --timeout 2s --healthy 2 --unhealthy 2 || return 1
        all=$(jq -c --argjson one "${RESULT:-null}" '. + [$one]' <<<"$all")
    done
    RESULT=$all
    give_replacing_back
}
give_replacing_back() {
    [ "$SUSPENDED" = yes ] || return 0
    insist autoscaling resume-processes --auto-scaling-group-name "$GROUP_NAME" --scaling-processes ReplaceUnhealthy || return 1
    SUSPENDED=no
}
# Another version, as a bake publishes it, and back from that.
goes_back() {
    call autoscaling describe-auto-scaling-groups --auto-scaling-group-names "$GROUP_NAME"
    local template before made
    template=$(pick '.AutoScalingGroups[0].LaunchTemplate.LaunchTemplateId')
    before=$(pick '.AutoScalingGroups[0].LaunchTemplate.Version')
    call ec2 create-launch-template-version --launch-template-id "$template" --source-version "$before" \
        --version-description "ami-bake $RUN, before: $before" --launch-template-data "$(jq -nc --arg image "$IMAGE" '{ImageId: $image}')"
    made=$(pick '.LaunchTemplateVersion.VersionNumber')
    call autoscaling update-auto-scaling-group --auto-scaling-group-name "$GROUP_NAME" \
        --launch-template "LaunchTemplateId=$template,Version=$made"
    verb_of_ours rollback --asg "$GROUP_NAME" || return 1
    call autoscaling describe-auto-scaling-groups --auto-scaling-group-names "$GROUP_NAME"
    [ "$(pick '.AutoScalingGroups[0].LaunchTemplate.Version')" = "$before" ] || { WHY="the group is not at version $before" && return 1; }
    RESULT=$(jq -nc --arg from "$made" --arg to "$before" '{from: $from, to: $to}')
}

# ---- the end, whichever

image_pruned() { verb_of_ours prune --run "$BAKED_BY" --all || return 1; }
undo_acceptance() {
    local stack ok=0
    [ -z "$CHILD" ] || { kill -TERM "$CHILD" 2>/dev/null && wait "$CHILD" 2>/dev/null; }
    give_replacing_back || say "resume ReplaceUnhealthy of $GROUP_NAME: $(complaint)"
    for stack in $STACKS; do
        say "deleting the stack $stack"
        insist cloudformation delete-stack --stack-name "$stack" || { ok=1 && say "delete the stack $stack: $(complaint)" && continue; }
        PATIENCE=$((PATIENCE * 2)) until_true "the stack $stack to go" stack_is "$stack" DELETE_COMPLETE ||
            { ok=1 && say "look at the stack $stack, which doesn't go"; }
    done
    # An image that was made just before the end may be known by its tag alone.
    if [ -z "$BAKED_BY" ] && insist ec2 describe-images --owners self --filters "Name=tag:acceptance,Values=$STACK_ID"; then
        BAKED_BY=$(pick --arg key "$RUN_TAG" '[.Images[] | .Tags[]? | select(.Key == $key) | .Value][0]')
    fi
    if [ -n "$BAKED_BY" ]; then
        # prune ends at a read that fails: what it has not seen it doesn't delete.
        PATIENCE=3 until_true "the image of this run to go" image_pruned || { ok=1 && say "try ami-bake.sh prune --run $BAKED_BY --all"; }
    fi
    return "$ok"
}
# What still has a tag of this run, one a line, in LEFT. A terminated instance goes on being listed for about an hour.
leftovers() {
    local pair found all='' ids
    for pair in "Key=$RUN_TAG,Values=$RUN" "Key=acceptance,Values=$STACK_ID"; do
        found=$(list '.ResourceTagMappingList[].ResourceARN' resourcegroupstaggingapi get-resources --tag-filters "$pair") ||
            { LEFT="what is left can't be listed: $(complaint)" && return 0; }
        all=$(printf '%s\n%s' "$all" "$found")
    done
    LEFT=$(grep . <<<"$all" | sort -u)
    ids=$(sed -n 's#.*/\(i-[0-9a-z]*\)$#\1#p' <<<"$LEFT")
    [ -n "$ids" ] || return 0
    ids=$(list '.Reservations[].Instances[] | select(.State.Name != "terminated") | .InstanceId' \
        ec2 describe-instances --filters "Name=instance-id,Values=$(tr '\n' ',' <<<"$ids" | sed 's/,$//')") || return 0
    LEFT=$(while IFS= read -r found; do
        case $found in
            */i-*) ! grep -qx "${found##*/}" <<<"$ids" || printf '%s\n' "$found" ;;
            *) printf '%s\n' "$found" ;;
        esac
    done <<<"$LEFT")
}
# What was deleted may be listed for minutes.
nothing_is_left() { leftovers && [ -z "$LEFT" ]; }
# report CODE LEFT: a run that was interrupted has no failed step, and is no success.
report() {
    local left=$2 json=$REPORT.json
    jq -s --arg run "$RUN" --arg account "${ACCOUNT:-}" --arg region "$REGION" --arg left "$left" --argjson code "$1" \
        '{event: "acceptance", run: $run, region: $region, ok: ($code == 0 and all(.[]; .ok) and $left == ""), steps: .,
          left: ($left | split("\n") | map(select(. != "")))}' "$SCRATCH/steps" >"$json"
    jq -r '"<!doctype html><meta charset=utf-8><title>asg-agent: acceptance \(.run)</title><style>body{font:16px sans-serif;margin:2em}td{padding:.3em 1em;vertical-align:top}pre{max-width:60em;overflow:auto}</style><h1>Acceptance \(.run): \(if .ok then "passed" else "failed" end)</h1><p>\(.region | @html). Left over: \(if .left == [] then "nothing" else (.left | join(", ") | @html) end)</p><table>"
        + ([.steps[] | "<tr><td>\(if .ok then "ok" else "FAILED" end)<td>\(.step | @html)<td>\(.seconds) s<td><pre>\(.result | tojson | .[0:2000] | @html)</pre>"] | join(""))
        + "</table>"' "$json" >"$REPORT.html"
    say "the report: $json and $REPORT.html"
}
finish_acceptance() {
    local code=$?
    trap '' INT TERM HUP
    set +e
    if [ -n "$STACK_ID" ] && [ "$BEGUN" = yes ]; then
        undo_acceptance || code=1
        if until_true "everything with a tag of this run to be gone" nothing_is_left; then
            say "nothing of this run is left, by its tag"
        else
            code=1
            say "still there: $(tr '\n' ' ' <<<"$LEFT")"
        fi
        report "$code" "$LEFT"
    fi
    rm -rf "$SCRATCH"
    exit "$code"
}

STACK_ID=
BEGUN=no
acceptance() {
    local answer
    asked rpm || wrong "acceptance wants --rpm FILE"
    read_rpm
    REGION=${AWS_REGION:-${AWS_DEFAULT_REGION:-$(aws configure get region || true)}}
    [ -n "$REGION" ] || wrong "acceptance wants --region"
    STACK_ID=$(tr 'TZ' 'tz' <<<"$RUN")
    REPORT=$(opt report)
    REPORT=${REPORT:-acceptance-$STACK_ID}
    REPORT=${REPORT%.json}
    PROFILE=asg-agent-bake-$REGION
    TYPE=$(opt instance-type)
    if [ -z "$TYPE" ]; then
        TYPE=t3.micro
        [ "$ARCH" = x86_64 ] || TYPE=t4g.micro
    fi
    asked client-cidr || OPT_client_cidr=0.0.0.0/0
    : >"$SCRATCH/steps"
    cat >&2 <<TEXT
This bakes an image, makes the tutorial's stack of it, loads it until it scales out, makes nginx fail in four ways, and
deletes all of it again: about an hour, and less than 1 USD (up to four $TYPE, a load balancer, an image of 8 GiB;
region $REGION). Interrupted at any point, everything is deleted as well.
TEXT
    if ! asked yes; then
        read -r -p "Go on? [y/N] " answer || answer=n
        case $answer in y | Y | yes) ;; *) die "nothing was done" ;; esac
    fi
    call sts get-caller-identity
    field ACCOUNT Account
    BEGUN=yes
    trap finish_acceptance EXIT
    part "what the bake needs" stack_for_the_bake
    part "doctor" look_around
    part "image" bake_the_image
    part "stack" the_tutorial
    part "two healthy targets" two_healthy
    part "probes" probes_on_all
    part "scales out" scales_out
    part "heals" heals
    part "rollback" goes_back
}
