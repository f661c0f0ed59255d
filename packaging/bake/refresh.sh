# shellcheck shell=bash disable=SC2016,SC2034,SC2153,SC2154 # variables and functions of the other parts; $ in jq
# The instance refresh of a group: started, watched to its end, and taken back when the new image costs clients too much.

REFRESHING=no    # a refresh of this run may be under way
REFRESH=         # its id
DESIRED=         # the configuration that it brings to a group which is pinned to a number
REPLACED=no      # it may have replaced an instance already
OBSERVER=        # the process that asks the load balancer meanwhile

check_refresh_flags() {
    local pct number='^[0-9]+([.][0-9]+)?$'
    ! asked refresh || asked asg || wrong "--refresh wants --asg"
    ! asked watch || asked refresh || wrong "--watch wants --refresh"
    if asked max-error-pct; then
        asked watch || wrong "--max-error-pct wants --refresh --watch"
        asked url || wrong "--max-error-pct wants --url: what clients ask the load balancer for"
        pct=$(opt max-error-pct)
        [[ $pct =~ $number ]] || wrong "--max-error-pct wants a number"
        agent_program >/dev/null || wrong "--max-error-pct wants the agent on this machine, which measures: install the RPM here, or name it in AMI_BAKE_AGENT"
    elif asked url; then
        wrong "--url wants --max-error-pct"
    fi
    if asked checkpoint; then
        asked watch || wrong "--checkpoint wants --refresh --watch"
        [[ $(opt checkpoint) =~ ^[1-9][0-9]?$ ]] || wrong "--checkpoint wants a percentage, 1 to 99"
    fi
    if asked alarms; then
        asked watch || wrong "--alarms wants --refresh --watch"
        # AlarmSpecification, EC2 Auto Scaling API: up to 10.
        case $(alarm_names | grep -c .) in [1-9] | 10) ;; *) wrong "--alarms wants up to 10 names, with commas between them" ;; esac
    fi
}
alarm_names() { printf '%s\n' "$(opt alarms)" | tr ',' '\n'; }

# An alarm that isn't there, or that rings already, ends a refresh before it has replaced anything: said before the bake.
check_alarms() {
    local name state names=()
    asked alarms || return 0
    while IFS= read -r name; do
        [ -z "$name" ] || names+=("$name")
    done < <(alarm_names)
    call cloudwatch describe-alarms --alarm-types MetricAlarm CompositeAlarm --alarm-names ${names[@]+"${names[@]}"}
    for name in ${names[@]+"${names[@]}"}; do
        state=$(pick --arg name "$name" '(.MetricAlarms // []) + (.CompositeAlarms // []) | .[] | select(.AlarmName == $name) | .StateValue')
        case $state in
            '') die "there is no CloudWatch alarm $name" ;;
            ALARM) die "the alarm $name is in ALARM: a refresh that it guards would fail" ;;
        esac
    done
}
agent_program() { command -v "${AMI_BAKE_AGENT:-agent}"; }

# Whether AWS rolls this refresh back by itself. AutoRollback is refused without a desired configuration, with $Default or $Latest, and
# where the image is named by a parameter of Systems Manager (EC2 Auto Scaling guide, "Undo changes with a rollback",
# 2026-11-27). Such a group is taken back by this script.
rolls_back() {
    [ -n "$DESIRED" ] || return 1
    case $DESIRED in *'"$Default"'* | *'"$Latest"'*) return 1 ;; esac
    image_of "$CURRENT"
    case $NAMED in resolve:ssm:*) return 1 ;; esac
}
# With alarms it waits at its end as well: the datapoints of the last instance come minutes after it.
refresh_preferences() {
    jq -nc --argjson auto "$1" --arg checkpoint "$(opt checkpoint)" --arg alarms "$(opt alarms)" '
        {MinHealthyPercentage: 100, MaxHealthyPercentage: 150, SkipMatching: true}
        + (if $auto then {AutoRollback: true} else {} end)
        + (if $alarms != "" then {AlarmSpecification: {Alarms: ($alarms | split(",") | map(select(. != "")))}, BakeTime: 300} else {} end)
        + (if $checkpoint != "" then {CheckpointPercentages: [($checkpoint | tonumber), 100], CheckpointDelay: 120} else {} end)'
}

refresh() {
    local preferences auto=false
    ! rolls_back || auto=true
    preferences=$(refresh_preferences "$auto")
    say "starting an instance refresh of $(opt asg)"
    ! asked max-error-pct || observe
    REFRESHING=yes
    call autoscaling start-instance-refresh --auto-scaling-group-name "$(opt asg)" --strategy Rolling \
        --preferences "$preferences" ${DESIRED:+--desired-configuration "$DESIRED"}
    REFRESH=$(pick .InstanceRefreshId)
    REPLACED=yes
    say "instance refresh $REFRESH of $(opt asg) has begun"
}

# Asks the load balancer as clients do, from before the refresh to its end; ends by itself at too many errors.
observe() {
    local agent
    agent=$(agent_program)
    say "asking $(opt url) meanwhile; more than $(opt max-error-pct) % errors undo the refresh"
    "$agent" drill failover --observe --json --url "$(opt url)" --secs 12h \
        --max-error-pct "$(opt max-error-pct)" --expect-instance none >"$SCRATCH/observed" 2>"$SCRATCH/observed.err" &
    OBSERVER=$!
    # The refresh begins once clients are seen to be served; a load balancer that fails already is refused by the agent.
    until_true "the first answers of $(opt url)" observer_has_begun || die "the load balancer can't be watched: $(observer_said)"
}
observer_has_begun() {
    [ ! -s "$SCRATCH/observed" ] || return 0
    observer_runs || return 2
    return 1
}
observer_runs() { [ -n "$OBSERVER" ] && kill -0 "$OBSERVER" 2>/dev/null; }
end_observer() {
    [ -n "$OBSERVER" ] || return 0
    # Not INT, which a shell lets its background processes ignore.
    kill -TERM "$OBSERVER" 2>/dev/null || true
    wait "$OBSERVER" 2>/dev/null || true
    OBSERVER=
    return 0
}

# 0: it succeeded; 1: under way; 2: it failed, or clients saw too many errors.
refresh_ended() {
    attempt autoscaling describe-instance-refreshes --auto-scaling-group-name "$(opt asg)" --instance-refresh-ids "$1" || return 1
    STATUS=$(pick '.InstanceRefreshes[0].Status')
    PERCENT=$(pick '.InstanceRefreshes[0].PercentageComplete')
    if [ "$STATUS:$PERCENT" != "${SHOWN:-}" ]; then
        SHOWN=$STATUS:$PERCENT
        say "refresh $1: $STATUS${PERCENT:+, $PERCENT %}"
    fi
    case $STATUS in
        Successful) return 0 ;;
        RollbackSuccessful) REPLACED=no && return 2 ;;
        Failed | Cancelled | RollbackFailed) return 2 ;;
        # Whatever the clients see now, it is going back already.
        RollbackInProgress | Cancelling) return 1 ;;
    esac
    if [ -n "$OBSERVER" ] && ! observer_runs; then return 3; fi
    return 1
}

# Waits for the end of the refresh where --watch asks for it; a refresh that fails undoes the run.
watch_refresh() {
    local end=0
    asked watch && [ -n "$REFRESH" ] || return 0
    # One instance after the other takes its time: an hour for each twenty minutes that anything else may take.
    PATIENCE=$((PATIENCE * 3)) until_true "the instance refresh of $(opt asg)" refresh_ended "$REFRESH" || end=$?
    if [ "$end" -eq 0 ]; then
        # What came while it ended counts as well.
        end_observer
        if asked max-error-pct && too_many_errors; then end=3; fi
    fi
    case $end in
        0)
            REFRESHING=no
            say "the instance refresh of $(opt asg) succeeded"
            ;;
        3) die "clients saw too many errors: $(observer_said)" ;;
        *) die "the instance refresh of $(opt asg) ended as $STATUS: $(pick '.InstanceRefreshes[0].StatusReason')" ;;
    esac
}
# Whether more of all requests failed than is allowed: a trickle, which no few seconds alone would show.
too_many_errors() {
    [ "$(jq -n --argjson most "$(opt max-error-pct)" 'reduce inputs as $line ({all: 0, bad: 0};
        if $line.event == "request" then .all += 1 elif $line.event == "result" then .bad = $line.errors else . end)
        | .bad * 100 > .all * $most' "$SCRATCH/observed")" = true ]
}
observer_said() { tail -n 3 "$SCRATCH/observed.err" | tr -s '\n' ' ' | cut -c 1-300; }

# Ends the refresh that this run started.
undo_refresh() {
    end_observer
    [ "$REFRESHING" = yes ] || return 0
    REFRESHING=no
    # Whatever it was that ended it may have ended it already.
    if [ -n "$REFRESH" ] && [ -n "$DESIRED" ] && asked watch &&
        attempt autoscaling rollback-instance-refresh --auto-scaling-group-name "$(opt asg)"; then
        say "rolling the instance refresh back"
        PATIENCE=$((PATIENCE * 3)) until_true "the rollback of the refresh" rolled_back || {
            say "look at the instance refresh of $(opt asg): its rollback has not ended well"
            return 1
        }
        REPLACED=no
        return 0
    fi
    if attempt autoscaling cancel-instance-refresh --auto-scaling-group-name "$(opt asg)"; then
        return 0
    fi
    grep -q ActiveInstanceRefreshNotFound "$SCRATCH/err" && return 0
    insist autoscaling cancel-instance-refresh --auto-scaling-group-name "$(opt asg)" || {
        grep -q ActiveInstanceRefreshNotFound "$SCRATCH/err" && return 0
        say "look at the instance refresh of $(opt asg): $(complaint)"
        return 1
    }
}
rolled_back() {
    attempt autoscaling describe-instance-refreshes --auto-scaling-group-name "$(opt asg)" --instance-refresh-ids "$REFRESH" || return 1
    case $(pick '.InstanceRefreshes[0].Status') in
        RollbackSuccessful | Cancelled | Failed) return 0 ;;
        RollbackFailed) return 2 ;;
    esac
    return 1
}
refresh_is_over() {
    attempt autoscaling describe-instance-refreshes --auto-scaling-group-name "$(opt asg)" --instance-refresh-ids "$1" || return 1
    case $(pick '.InstanceRefreshes[0].Status') in
        Successful | Failed | Cancelled | RollbackSuccessful | RollbackFailed) return 0 ;;
    esac
    return 1
}

# Instances that were replaced already are replaced by ones of before, after the template is what it was.
refresh_back() {
    local id
    [ "$REPLACED" = yes ] && asked watch || return 0
    REPLACED=no
    until_true "the cancelled refresh" refresh_is_over "$REFRESH" || true
    say "replacing the instances that the new image already has"
    insist autoscaling start-instance-refresh --auto-scaling-group-name "$(opt asg)" --strategy Rolling \
        --preferences '{"MinHealthyPercentage": 100, "MaxHealthyPercentage": 150, "SkipMatching": true}' || {
        say "start an instance refresh of $(opt asg): instances of the new image may run: $(complaint)"
        return 1
    }
    id=$(pick .InstanceRefreshId)
    PATIENCE=$((PATIENCE * 3)) until_true "the instances of before" refresh_is_over "$id" || return 1
    say "the group $(opt asg) is what it was"
}
