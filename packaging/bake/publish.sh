# shellcheck shell=bash disable=SC2016,SC2034 # variables and functions of the other parts; $ in jq
# The launch template and the group that uses it: a new version becomes the default, the one before is kept, and
# whatever fails puts all of it back.

TEMPLATE=        # its id; empty: nothing is to be published
PUBLISHING=no    # something of it may have been changed
VERSIONING=no    # a version of this run may exist
DEFAULTING=no    # its default may have been changed
PINNING=no       # the group's version may have been changed
REFRESHING=no    # a refresh of this run may be under way

# The template that is named, or that the group uses: its id, name, default version; the group's version in PIN.
read_template() {
    local name group version
    name=$(opt launch-template)
    group=$(opt asg)
    PIN=
    [ -n "$name$group" ] || return 0
    if [ -n "$group" ]; then
        call autoscaling describe-auto-scaling-groups --auto-scaling-group-names "$group"
        [ -n "$(pick '.AutoScalingGroups[0].AutoScalingGroupName')" ] || die "there is no Auto Scaling group $group"
        MIXED=$(pick '.AutoScalingGroups[0].MixedInstancesPolicy.LaunchTemplate | tojson | select(. != "null")')
        version='.AutoScalingGroups[0] | .LaunchTemplate // .MixedInstancesPolicy.LaunchTemplate.LaunchTemplateSpecification'
        TEMPLATE=$(pick "$version | .LaunchTemplateId")
        PIN=$(pick "$version | .Version")
        PIN=${PIN:-\$Default} # what EC2 Auto Scaling takes where none is named
        [ -n "$TEMPLATE" ] || die "the group $group uses no launch template"
        [ -z "$MIXED" ] || [[ $PIN == \$* ]] ||
            die "the group $group has a mixed instances policy with version $PIN: set it to \$Default first"
        call ec2 describe-launch-templates --launch-template-ids "$TEMPLATE"
        [ -z "$name" ] || [ "$name" = "$(pick '.LaunchTemplates[0].LaunchTemplateName')" ] ||
            die "the group $group uses the launch template $(pick '.LaunchTemplates[0].LaunchTemplateName'), not $name"
    else
        call ec2 describe-launch-templates --launch-template-names "$name"
        TEMPLATE=$(pick '.LaunchTemplates[0].LaunchTemplateId')
    fi
    TEMPLATE_NAME=$(pick '.LaunchTemplates[0].LaunchTemplateName')
    DEFAULT=$(pick '.LaunchTemplates[0].DefaultVersionNumber')
    if asked refresh; then
        call autoscaling describe-instance-refreshes --auto-scaling-group-name "$group"
        [ -z "$(pick '.InstanceRefreshes[] | select(.Status |
            IN("Pending", "InProgress", "Cancelling", "RollbackInProgress", "Baking")) | .InstanceRefreshId')" ] ||
            die "an instance refresh of the group $group is under way"
    fi
}

plan_publish() {
    [ -n "$TEMPLATE" ] || return 0
    echo "publish    a new version of $TEMPLATE_NAME becomes its default; version $DEFAULT is kept"
    plan_group
}
plan_group() {
    [ -z "$PIN" ] || [[ $PIN == \$* ]] || echo "group      $(opt asg) goes from version $PIN to the new one"
    ! asked refresh || echo "refresh    of $(opt asg): new instances first, then the old ones end"
}

# Makes an image what new instances start from.
publish() {
    local image=$1 version
    [ -n "$TEMPLATE" ] || return 0
    call ec2 describe-launch-template-versions --launch-template-id "$TEMPLATE" --versions "$DEFAULT"
    if [ "$(pick '.LaunchTemplateVersions[0].LaunchTemplateData.ImageId')" = "$image" ]; then
        say "version $DEFAULT of $TEMPLATE_NAME names $image already"
        version=$DEFAULT
    else
        PUBLISHING=yes VERSIONING=yes
        call ec2 create-launch-template-version --launch-template-id "$TEMPLATE" --source-version "$DEFAULT" \
            --client-token "$RUN" --version-description "ami-bake $RUN, before: $DEFAULT" \
            --launch-template-data "$(jq -nc --arg image "$image" '{ImageId: $image}')"
        version=$(pick '.LaunchTemplateVersion.VersionNumber')
        set_default "$version"
    fi
    move_group "$version"
}

set_default() {
    say "version $1 becomes the default of $TEMPLATE_NAME, after $DEFAULT"
    PUBLISHING=yes DEFAULTING=yes
    call ec2 modify-launch-template --launch-template-id "$TEMPLATE" --default-version "$1"
}

# Lets the group use a version, and refreshes it where that is asked for.
move_group() {
    local desired=() preferences='{"MinHealthyPercentage": 100, "MaxHealthyPercentage": 150, "SkipMatching": true}'
    asked asg || return 0
    PUBLISHING=yes
    if [[ $PIN != \$* ]] && [ "$PIN" != "$1" ]; then
        if asked refresh; then
            # The group takes the version over when the refresh succeeds, and goes back by itself when it fails.
            desired=(--desired-configuration
                "{\"LaunchTemplate\": {\"LaunchTemplateId\": \"$TEMPLATE\", \"Version\": \"$1\"}}")
            preferences=${preferences%\}}', "AutoRollback": true}'
        else
            PINNING=yes
            pin "$1" call
        fi
    fi
    asked refresh || return 0
    say "starting an instance refresh of $(opt asg)"
    REFRESHING=yes
    call autoscaling start-instance-refresh --auto-scaling-group-name "$(opt asg)" --strategy Rolling \
        --preferences "$preferences" "${desired[@]}"
    say "instance refresh $(pick .InstanceRefreshId) of $(opt asg) has begun"
}

# pin VERSION call|insist
pin() {
    say "the group $(opt asg) uses version $1"
    "$2" autoscaling update-auto-scaling-group --auto-scaling-group-name "$(opt asg)" \
        --launch-template "LaunchTemplateId=$TEMPLATE,Version=$1"
}

# Puts back what publish or rollback may have changed. What couldn't be is said.
undo_publish() {
    local version ok=0
    [ "$PUBLISHING" = yes ] || return 0
    say "putting the launch template $TEMPLATE_NAME back as it was"
    if [ "$REFRESHING" = yes ]; then
        insist autoscaling cancel-instance-refresh --auto-scaling-group-name "$(opt asg)" ||
            { ok=1 && say "look at the instance refresh of $(opt asg): $(complaint)"; }
    fi
    if [ "$PINNING" = yes ]; then
        pin "$PIN" insist || { ok=1 && say "the group $(opt asg) should use version $PIN again: $(complaint)"; }
    fi
    if [ "$DEFAULTING" = yes ]; then
        insist ec2 modify-launch-template --launch-template-id "$TEMPLATE" --default-version "$DEFAULT" ||
            { ok=1 && say "the default of $TEMPLATE_NAME should be $DEFAULT again: $(complaint)"; }
    fi
    if [ "$VERSIONING" = yes ]; then
        insist ec2 describe-launch-template-versions --launch-template-id "$TEMPLATE" --min-version "$DEFAULT" ||
            { ok=1 && say "look for a version of run $RUN in $TEMPLATE_NAME: $(complaint)"; }
        for version in $(pick --arg run "ami-bake $RUN," '.LaunchTemplateVersions[] |
            select((.VersionDescription // "") | startswith($run)) | .VersionNumber'); do
            insist ec2 delete-launch-template-versions --launch-template-id "$TEMPLATE" --versions "$version" ||
                { ok=1 && say "delete version $version of $TEMPLATE_NAME: $(complaint)"; }
        done
    fi
    return "$ok"
}

rollback() {
    local version before image
    asked launch-template || asked asg || wrong "rollback wants --launch-template or --asg"
    ! asked refresh || asked asg || wrong "--refresh wants --asg"
    read_template
    version=$(opt to-version)
    if [ -z "$version" ]; then
        call ec2 describe-launch-template-versions --launch-template-id "$TEMPLATE" --versions "$DEFAULT"
        before=$(pick '.LaunchTemplateVersions[0].VersionDescription')
        [[ $before =~ ^ami-bake\ .*,\ before:\ ([0-9]+)$ ]] || die "version $DEFAULT of $TEMPLATE_NAME was not" \
            "published by ami-bake: say with --to-version which one to go back to"
        version=${BASH_REMATCH[1]}
    fi
    [ "$version" != "$DEFAULT" ] || die "version $version is the default of $TEMPLATE_NAME already"
    # A version whose image is gone would leave the group without new instances.
    call ec2 describe-launch-template-versions --launch-template-id "$TEMPLATE" --versions "$version"
    image=$(pick '.LaunchTemplateVersions[0].LaunchTemplateData.ImageId')
    case $image in
        ami-*)
            call ec2 describe-images --image-ids "$image"
            [ "$(pick '.Images[0].State')" = available ] || die "the image $image of version $version is not available"
            ;;
    esac
    if asked dry-run; then
        echo "rollback   the default of $TEMPLATE_NAME goes from version $DEFAULT to $version, with $image"
        plan_group
        return
    fi
    set_default "$version"
    move_group "$version"
    trap '' INT TERM HUP
    PUBLISHING=no
    echo "$TEMPLATE_NAME $version $image"
}
