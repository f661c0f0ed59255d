# shellcheck shell=bash disable=SC2016,SC2034,SC2153 # variables and functions of the other parts; $ in jq
# prune: old images of ours go, or all that one killed run has left.

# Everything that names an image for instances to come, one id a line: all versions of all launch templates but those
# given (TEMPLATE:VERSION), and all launch configurations.
named_images() {
    local template
    insist autoscaling describe-launch-configurations || return 1
    pick '.LaunchConfigurations[] | .ImageId'
    for template in $1; do
        insist ec2 describe-launch-template-versions --launch-template-id "$template" || return 1
        pick --arg but " $2 " '.LaunchTemplateVersions[]
            | select("\(.LaunchTemplateId):\(.VersionNumber)" as $v | $but | contains(" \($v) ") | not)
            | .LaunchTemplateData.ImageId'
    done
}

# The versions of a template that this tool published and that nothing needs any more: not the default, not the one
# before it, not the latest, not one that a group is pinned to. All but the newest KEEP of them.
old_versions() {
    local pinned
    call autoscaling describe-auto-scaling-groups
    pinned=$(pick -c --arg id "$TEMPLATE" '[.AutoScalingGroups[]
        | .LaunchTemplate, .MixedInstancesPolicy.LaunchTemplate.LaunchTemplateSpecification
        | select(.LaunchTemplateId? == $id) | .Version]')
    call ec2 describe-launch-template-versions --launch-template-id "$TEMPLATE"
    pick --arg default "$DEFAULT" --argjson pinned "$pinned" --argjson keep "$1" '.LaunchTemplateVersions
        | (map(.VersionNumber) | max | tostring) as $latest
        | (map(select(.DefaultVersion) | .VersionDescription // "" | capture("before: (?<n>[0-9]+)$").n) | .[0]) as $before
        | map(select((.VersionDescription // "") | startswith("ami-bake ")))
        | sort_by(-.VersionNumber) | .[$keep:] | .[].VersionNumber | tostring
        | select(. != $default and . != $latest and . != $before)
        | select(. as $v | $pinned | index($v) | not)'
}

prune() {
    local keep versions='' but='' templates named images image count=0
    if asked run; then
        ! asked keep || wrong "--keep and --run exclude each other"
        prune_run "$(opt run)"
        return
    fi
    keep=$(opt keep)
    [[ $keep =~ ^[1-9][0-9]*$ ]] || wrong "prune wants --keep N, 1 or more, or --run ID"
    read_template
    if [ -n "$TEMPLATE" ]; then
        versions=$(old_versions "$keep")
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
        asked dry-run || remove_image "$image" || die "could not remove $image: $(complaint)"
    done
    if asked dry-run; then
        say "$count images would go"
    else
        say "$count images are gone"
    fi
}

# What a run that was killed has left. An image that passed its test was completed or is used: it stays.
prune_run() {
    local tested
    [[ $1 =~ ^[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}$ ]] || wrong "--run wants the id of a run, as 20260131T120000Z-0a1b2c3d"
    call ec2 describe-images --owners self --filters "Name=tag:$RUN_TAG,Values=$1"
    tested=$(pick --arg key "$TESTED_TAG" '[.Images[] | select(any(.Tags[]?; .Key == $key))][0].ImageId')
    [ -z "$tested" ] || say "$tested passed its test and stays"
    if asked dry-run; then
        run_instances "$1" && run_images "$1" && run_snapshots "$1" && run_groups "$1"
        return
    fi
    KEEP_IMAGE=$tested
    remove_run "$1" || die "not all of run $1 is gone"
    say "nothing of run $1 is left${tested:+ but $tested}"
}
