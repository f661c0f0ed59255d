# shellcheck shell=bash disable=SC2154 # variables and functions of the other parts
# Removes what a run made, found by its tag: what is there counts, not what was remembered.

# A call of AWS at the end of a run: tried again for a while, as what it removes may still be in use.
insist() {
    local tries=0
    until attempt "$@"; do
        # Gone already is as good; so is an image that was deregistered before.
        grep -Eq 'NotFound|NoSuch|InvalidAMIID.Unavailable' "$SCRATCH/err" && return 0
        tries=$((tries + 1))
        [ "$tries" -lt 6 ] || return 1
        sleep "$POLL"
    done
}

# The ids that a listing finds, one a line; tried again when the call fails.
# list JQ CALL…
list() {
    local filter=$1
    shift
    insist "$@" || return 1
    jq -r "$filter" <<<"$OUT"
}

run_instances() {
    list '.Reservations[].Instances[] | select(.State.Name != "terminated") | .InstanceId' \
        ec2 describe-instances --filters "Name=tag:$RUN_TAG,Values=$1"
}
run_images() {
    list '.Images[] | .ImageId' ec2 describe-images --owners self --filters "Name=tag:$RUN_TAG,Values=$1"
}
run_snapshots() {
    list '.Snapshots[] | .SnapshotId' ec2 describe-snapshots --owner-ids self --filters "Name=tag:$RUN_TAG,Values=$1"
}
# Volumes that outlive their instance, as data volumes of a base image whose DeleteOnTermination is false.
run_volumes() {
    list '.Volumes[] | .VolumeId' ec2 describe-volumes --filters "Name=tag:$RUN_TAG,Values=$1"
}
run_groups() {
    list '.SecurityGroups[] | .GroupId' ec2 describe-security-groups --filters "Name=tag:$RUN_TAG,Values=$1"
}

# The snapshots of an image.
snapshots_of() {
    list '.Images[].BlockDeviceMappings[] | .Ebs.SnapshotId // empty' ec2 describe-images --image-ids "$1"
}

instances_gone() {
    local left
    left=$(run_instances "$1") || return 2
    [ -z "$left" ]
}

# Removes an image and its snapshots.
remove_image() {
    local image=$1 snapshots snapshot ok=0
    snapshots=$(snapshots_of "$image") || return 1
    insist ec2 deregister-image --image-id "$image" || return 1
    for snapshot in $snapshots; do
        # One that stays is found by its tag the next time.
        insist ec2 delete-snapshot --snapshot-id "$snapshot" || ok=1
    done
    return "$ok"
}

# Everything of one run, but for the image in KEEP_IMAGE and its snapshots. Says what couldn't be removed.
remove_run() {
    local run=$1 left=() ids id kept='' newline=$'\n'
    if [ -n "$KEEP_IMAGE" ]; then
        kept=$(snapshots_of "$KEEP_IMAGE") || { left+=("a look at $KEEP_IMAGE") && kept=unknown; }
    fi
    # A builder that was just asked for may be listed a moment later: a launch whose end is unknown is looked for twice.
    if [ "${LAUNCHING:-no}" = yes ]; then
        sleep "$POLL"
    fi
    if ids=$(run_instances "$run"); then
        if [ -n "$ids" ]; then
            # shellcheck disable=SC2086 # ids are words
            insist ec2 terminate-instances --instance-ids $ids || left+=("instances ${ids//$newline/ }")
            until_true "the instances of this run to end" instances_gone "$run" || left+=("instances that are ending")
        fi
    else
        left+=("instances, which can't be listed")
    fi
    if ids=$(run_images "$run"); then
        for id in $ids; do
            [ "$id" = "$KEEP_IMAGE" ] || insist ec2 deregister-image --image-id "$id" || left+=("image $id")
        done
    else
        left+=("images, which can't be listed")
    fi
    if ids=$(run_snapshots "$run"); then
        for id in $ids; do
            [[ " ${kept//$newline/ } " == *" $id "* || $kept = unknown ]] && continue
            insist ec2 delete-snapshot --snapshot-id "$id" || left+=("snapshot $id")
        done
    else
        left+=("snapshots, which can't be listed")
    fi
    if ids=$(run_volumes "$run"); then
        for id in $ids; do
            insist ec2 delete-volume --volume-id "$id" || left+=("volume $id")
        done
    else
        left+=("volumes, which can't be listed")
    fi
    if ids=$(run_groups "$run"); then
        for id in $ids; do
            insist ec2 delete-security-group --group-id "$id" || left+=("security group $id")
        done
    else
        left+=("security groups, which can't be listed")
    fi
    if [ "${UPLOADED:-no}" = yes ]; then
        insist s3api delete-object --bucket "$BUCKET" --key "$OBJECT_KEY" \
            --expected-bucket-owner "$ACCOUNT" || left+=("s3://$BUCKET/$OBJECT_KEY")
    fi
    [ ${#left[@]} -eq 0 ] && return 0
    say "could not remove: $(printf '%s; ' ${left[@]+"${left[@]}"})try ami-bake.sh prune --run $run"
    return 1
}
