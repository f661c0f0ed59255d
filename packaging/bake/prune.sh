# shellcheck shell=bash disable=SC2016,SC2034,SC2153 # variables and functions of the other parts; $ in jq
# prune: old images of ours go, or all that one killed run has left.

# Everything that names an image for instances to come, one id a line: all versions of all launch templates but those
# given (TEMPLATE:VERSION), and all launch configurations. A version may name a parameter of Systems Manager instead
# (resolve:ssm:NAME): what that holds now counts.
named_images() {
    local template names name
    insist autoscaling describe-launch-configurations || return 1
    pick '.LaunchConfigurations[] | .ImageId'
    for template in $1; do
        insist ec2 describe-launch-template-versions --launch-template-id "$template" || return 1
        names=$(pick --arg but " $2 " '.LaunchTemplateVersions[]
            | select("\(.LaunchTemplateId):\(.VersionNumber)" as $v | $but | contains(" \($v) ") | not)
            | .LaunchTemplateData.ImageId')
        for name in $names; do
            case $name in
                resolve:ssm:*)
                    insist ssm get-parameter --name "${name#resolve:ssm:}" || return 1
                    pick .Parameter.Value
                    ;;
                *) echo "$name" ;;
            esac
        done
    done
}

# The versions of the template that something names, one a line: groups with their overrides and their instances, other
# instances, EC2 fleets, spot fleets. A number, $Default or $Latest.
used_versions() {
    call autoscaling describe-auto-scaling-groups
    pick --arg id "$TEMPLATE" "$SPECS"' .AutoScalingGroups[] | specs[]'
    pick --arg id "$TEMPLATE" '.AutoScalingGroups[].Instances[]? | .LaunchTemplate
        | select(. != null and .LaunchTemplateId == $id) | .Version'
    call ec2 describe-instances --filters "Name=tag:aws:ec2launchtemplate:id,Values=$TEMPLATE"
    pick '.Reservations[].Instances[] | select(.State.Name != "terminated") | .Tags[]?
        | select(.Key == "aws:ec2launchtemplate:version") | .Value'
    call ec2 describe-fleets
    pick --arg id "$TEMPLATE" '.Fleets[]? | select(.FleetState | IN("deleted", "deleted_terminating") | not)
        | .LaunchTemplateConfigs[]? | .LaunchTemplateSpecification, .Overrides[]?.LaunchTemplateSpecification?
        | select(. != null and .LaunchTemplateId == $id) | .Version'
    call ec2 describe-spot-fleet-requests
    pick --arg id "$TEMPLATE" '.SpotFleetRequestConfigs[]? | select(.SpotFleetRequestState | startswith("cancelled") | not)
        | .SpotFleetRequestConfig.LaunchTemplateConfigs[]? | .LaunchTemplateSpecification
        | select(. != null and .LaunchTemplateId == $id) | .Version'
}

# The versions of a template that this tool published and that nothing needs any more: not the default nor the latest,
# not one that anything names, and not one that a rollback of any of these goes back to. All but the newest KEEP of them.
old_versions() {
    local used
    used=$(used_versions) || exit 1
    call ec2 describe-launch-template-versions --launch-template-id "$TEMPLATE"
    pick --arg used "$used" --argjson keep "$1" '.LaunchTemplateVersions
        | (map({key: (.VersionNumber | tostring), value: (.VersionDescription // "")}) | from_entries) as $said
        | (map(.VersionNumber) | max | tostring) as $latest
        | (map(select(.DefaultVersion).VersionNumber | tostring)) as $default
        | ($used | split("\n") | map(select(. != "" and (startswith("$") | not))) + $default + [$latest]) as $named
        | def step($word): $said[.] // "" | capture("^ami-bake .*, \($word): (?<n>[0-9]+)$").n;
          def copies: ., (step("again") | copies);
          ([$named[] | copies | ., step("before")] | unique) as $needed
        | map(select((.VersionDescription // "") | startswith("ami-bake ")))
        | sort_by(-.VersionNumber) | .[$keep:] | .[].VersionNumber | tostring
        | select(. as $v | $needed | index($v) | not)'
}

# Snapshots of images that are gone: what couldn't be deleted when its image was. Found by its tag; one whose run has an
# image, be it one that is just being made, is never among them.
lost_snapshots() {
    local images
    insist ec2 describe-images --owners self --filters "Name=tag-key,Values=$RUN_TAG" || return 1
    images=$(pick -c --arg run "$RUN_TAG" '[.Images[] | (.BlockDeviceMappings[]? | .Ebs.SnapshotId // empty),
        (.Tags[]? | select(.Key == $run) | .Value)]')
    list '.' ec2 describe-snapshots --owner-ids self --filters "Name=tag-key,Values=$NAME_TAG" >/dev/null || return 1
    pick --arg run "$RUN_TAG" --argjson images "${images:-[]}" '.Snapshots[]
        | select(.SnapshotId as $id | $images | index($id) | not)
        | select([.Tags[]? | select(.Key == $run) | .Value][0] as $r | $images | index($r) | not) | .SnapshotId'
}

prune() {
    local keep versions='' but='' templates named images image snapshots snapshot version count=0 left=0
    if asked run; then
        ! asked keep || wrong "--keep and --run exclude each other"
        prune_run "$(opt run)"
        return
    fi
    keep=$(opt keep)
    if asked all; then
        [ -z "$keep" ] || wrong "--keep and --all exclude each other"
        keep=0
    else
        [[ $keep =~ ^[1-9][0-9]*$ ]] || wrong "prune wants --keep N, 1 or more, --all, or --run ID"
    fi
    read_template
    if [ -n "$TEMPLATE" ]; then
        versions=$(old_versions "$keep") || die "which versions are used can't be told: $(complaint)"
        for version in $versions; do but+=" $TEMPLATE:$version"; done
    fi
    call ec2 describe-launch-templates
    templates=$(pick '.LaunchTemplates[] | .LaunchTemplateId')
    named=$(named_images "$templates" "$but") || die "what launch templates name can't be told: $(complaint)"
    call ec2 describe-images --owners self --filters "Name=tag-key,Values=$NAME_TAG"
    images=$(pick --argjson keep "$keep" '.Images | sort_by(.CreationDate) | reverse | .[$keep:] | .[] | .ImageId')
    for version in $versions; do
        echo "version $version of $TEMPLATE_NAME"
        asked dry-run || call ec2 delete-launch-template-versions --launch-template-id "$TEMPLATE" --versions "$version"
    done
    for image in $images; do
        if grep -qx "$image" <<<"$named"; then
            say "$image stays: a launch template names it"
            continue
        fi
        echo "$image"
        count=$((count + 1))
        asked dry-run || remove_image "$image" || { say "could not remove $image: $(complaint)" && left=1; }
    done
    snapshots=$(lost_snapshots) || die "snapshots can't be listed: $(complaint)"
    for snapshot in $snapshots; do
        echo "$snapshot, whose image is gone"
        asked dry-run || insist ec2 delete-snapshot --snapshot-id "$snapshot" ||
            { say "could not remove $snapshot: $(complaint)" && left=1; }
    done
    if asked dry-run; then
        say "$count images would go"
    else
        [ "$left" -eq 0 ] || die "not all is gone: the next prune tries again"
        say "$count images are gone"
    fi
}

# What a run that was killed has left. An image that passed its test was completed or is used: it stays without --all,
# and with it where a launch template names it.
prune_run() {
    local tested templates named
    [[ $1 =~ ^[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}$ ]] || wrong "--run wants the id of a run, as 20260131T120000Z-0a1b2c3d"
    call ec2 describe-images --owners self --filters "Name=tag:$RUN_TAG,Values=$1"
    tested=$(pick --arg key "$TESTED_TAG" '[.Images[] | select(any(.Tags[]?; .Key == $key))][0].ImageId')
    if [ -n "$tested" ] && asked all; then
        call ec2 describe-launch-templates
        templates=$(pick '.LaunchTemplates[] | .LaunchTemplateId')
        named=$(named_images "$templates" '') || die "what launch templates name can't be told: $(complaint)"
        if grep -qx "$tested" <<<"$named"; then
            say "$tested stays: a launch template names it"
        else
            tested=
        fi
    elif [ -n "$tested" ]; then
        say "$tested passed its test and stays; with --all it goes as well"
    fi
    if asked dry-run; then
        run_instances "$1" && run_images "$1" && run_snapshots "$1" && run_volumes "$1" && run_groups "$1"
        return
    fi
    KEEP_IMAGE=$tested
    remove_run "$1" || die "not all of run $1 is gone"
    say "nothing of run $1 is left${tested:+ but $tested}"
}
