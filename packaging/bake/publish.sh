# shellcheck shell=bash disable=SC2016,SC2034,SC2153 # variables and functions of the other parts; $ in jq
# The launch template and the groups that use it: a new version becomes the default, the one before is kept, and
# whatever fails puts all of it back. A group can use a template's $Default, its $Latest or a number, for all its
# instances or in each of its overrides; each of these ways is moved as it has to be.

TEMPLATE=        # its id; empty: nothing is to be published
CURRENT=         # the version that the group uses, or else the default one
GROUP_JSON=      # the group, as AWS describes it
PUBLISHING=no    # something of it may have been changed
VERSIONING=no    # a version of this run may exist
DEFAULTING=no    # its default may have been changed
PINNING=no       # the group's version may have been changed

# jq: every place in which a group names the template $id.
SPECS='def specs: [.LaunchTemplate, .MixedInstancesPolicy.LaunchTemplate.LaunchTemplateSpecification,
        (.MixedInstancesPolicy.LaunchTemplate.Overrides[]? | .LaunchTemplateSpecification)]
    | map(select(. != null and .LaunchTemplateId == $id)) | map(.Version // "$Default");'

# The template that is named, or that the group uses: its id, name, default and latest version; who uses it.
read_template() {
    local name group main
    name=$(opt launch-template)
    group=$(opt asg)
    [ -n "$name$group" ] || return 0
    call autoscaling describe-auto-scaling-groups
    local groups=$OUT
    if [ -n "$group" ]; then
        GROUP_JSON=$(jq -c --arg name "$group" '.AutoScalingGroups[] | select(.AutoScalingGroupName == $name)' <<<"$groups")
        [ -n "$GROUP_JSON" ] || die "there is no Auto Scaling group $group"
        main='.LaunchTemplate // .MixedInstancesPolicy.LaunchTemplate.LaunchTemplateSpecification'
        TEMPLATE=$(jq -r "$main | .LaunchTemplateId // empty" <<<"$GROUP_JSON")
        CURRENT=$(jq -r "$main | .Version // \"\$Default\"" <<<"$GROUP_JSON")
        [ -n "$TEMPLATE" ] || die "the group $group uses no launch template"
        call ec2 describe-launch-templates --launch-template-ids "$TEMPLATE"
        [ -z "$name" ] || [ "$name" = "$(pick '.LaunchTemplates[0].LaunchTemplateName')" ] ||
            die "the group $group uses the launch template $(pick '.LaunchTemplates[0].LaunchTemplateName'), not $name"
    else
        call ec2 describe-launch-templates --launch-template-names "$name"
        TEMPLATE=$(pick '.LaunchTemplates[0].LaunchTemplateId')
        CURRENT=\$Default
    fi
    TEMPLATE_NAME=$(pick '.LaunchTemplates[0].LaunchTemplateName')
    DEFAULT=$(pick '.LaunchTemplates[0].DefaultVersionNumber')
    LATEST=$(pick '.LaunchTemplates[0].LatestVersionNumber')
    case $CURRENT in
        \$Default) CURRENT=$DEFAULT ;;
        \$Latest) CURRENT=$LATEST ;;
    esac
    # GROUP VERSION, a line for each place.
    USES=$(jq -r --arg id "$TEMPLATE" "$SPECS"' .AutoScalingGroups[] | .AutoScalingGroupName as $n
        | specs | unique[] | "\($n) \(.)"' <<<"$groups")
    if asked refresh; then
        call autoscaling describe-instance-refreshes --auto-scaling-group-name "$group"
        [ -z "$(pick '.InstanceRefreshes[] | select(.Status |
            IN("Pending", "InProgress", "Cancelling", "RollbackInProgress", "Baking")) | .InstanceRefreshId')" ] ||
            die "an instance refresh of the group $group is under way"
        check_alarms
    fi
}

# Whether a version is to be the newest one, because a group follows $Latest.
latest_is_followed() { grep -q ' \$Latest$' <<<"$USES"; }
# Whether the group of this run names a number somewhere, which has to be moved.
is_pinned() {
    [ -n "$GROUP_JSON" ] && [ -n "$(jq -r --arg id "$TEMPLATE" --arg to "${1:-}" "$SPECS"'
        specs[] | select(startswith("$") | not) | select(. != $to)' <<<"$GROUP_JSON")" ]
}

plan_publish() {
    [ -n "$TEMPLATE" ] || return 0
    echo "publish    a new version of $TEMPLATE_NAME, from version $CURRENT, becomes its default; version $CURRENT is kept"
    plan_group
}
plan_group() {
    local group version
    while read -r group version; do
        case $group:$version in
            :) ;;
            *:\$*) echo "group      $group follows $version" ;;
            "$(opt asg)":*) echo "group      $group goes from version $version to the new one" ;;
            *) echo "group      $group is pinned to version $version and stays there: --asg $group moves it" ;;
        esac
    done <<<"$USES"
    ! asked refresh || echo "refresh    of $(opt asg): new instances first, then the old ones end$(
        ! asked watch || echo "; watched until its end$(! asked max-error-pct || echo ", undone at more than $(opt max-error-pct) % errors of $(opt url)")$(
            ! asked alarms || echo ", undone when an alarm rings: $(opt alarms)")")"
}

# What follows, what stays: said, so that nobody takes a group for moved that isn't.
say_who_stays() {
    local group version
    while read -r group version; do
        case $version in
            '' | \$*) ;;
            *) [ "$group" = "$(opt asg)" ] || [ "$version" = "$1" ] ||
                say "the group $group is pinned to version $version and stays there: --asg $group moves it" ;;
        esac
    done <<<"$USES"
}

image_of() { # VERSION: the image that it names, and its description in SAID
    call ec2 describe-launch-template-versions --launch-template-id "$TEMPLATE" --versions "$1"
    NAMED=$(pick '.LaunchTemplateVersions[0].LaunchTemplateData.ImageId')
    SAID=$(pick '.LaunchTemplateVersions[0].VersionDescription')
}

# A new version, whose number is in VERSION: new_version FROM IMAGE WHY
new_version() {
    PUBLISHING=yes VERSIONING=yes
    call ec2 create-launch-template-version --launch-template-id "$TEMPLATE" --source-version "$1" \
        --client-token "$RUN" --version-description "ami-bake $RUN, $3" \
        --launch-template-data "$(jq -nc --arg image "$2" '{ImageId: $image}')"
    VERSION_MADE=$(pick '.LaunchTemplateVersion.VersionNumber')
}

# Makes an image what new instances start from.
publish() {
    local image=$1 version
    [ -n "$TEMPLATE" ] || return 0
    image_of "$CURRENT"
    if [ "$NAMED" = "$image" ]; then
        say "version $CURRENT of $TEMPLATE_NAME names $image already"
        version=$CURRENT
    else
        new_version "$CURRENT" "$image" "before: $CURRENT"
        version=$VERSION_MADE
        set_default "$version"
    fi
    move_group "$version"
}

set_default() {
    [ "$1" != "$DEFAULT" ] || return 0
    say "version $1 becomes the default of $TEMPLATE_NAME, after $DEFAULT"
    PUBLISHING=yes DEFAULTING=yes
    call ec2 modify-launch-template --launch-template-id "$TEMPLATE" --default-version "$1"
}

# What update-auto-scaling-group and a refresh are told, so that the group uses a version where it names a number: JSON
# {"LaunchTemplate": …} or {"MixedInstancesPolicy": …}; with no version: as it was.
configuration() {
    jq -c --arg id "$TEMPLATE" --arg to "${1:-}" '
        def moved: if .LaunchTemplateId == $id and $to != "" and ((.Version // "$Default") | startswith("$") | not)
            then .Version = $to else . end | {LaunchTemplateId, Version: (.Version // "$Default")};
        if .LaunchTemplate then {LaunchTemplate: (.LaunchTemplate | moved)}
        else {MixedInstancesPolicy: (.MixedInstancesPolicy
            | .LaunchTemplate.LaunchTemplateSpecification |= moved
            | if .LaunchTemplate.Overrides then .LaunchTemplate.Overrides |= map(
                if .LaunchTemplateSpecification then .LaunchTemplateSpecification |= moved else . end) else . end)}
        end' <<<"$GROUP_JSON"
}

# Lets the group use a version, and refreshes it where that is asked for.
move_group() {
    asked asg || { say_who_stays "$1" && return 0; }
    PUBLISHING=yes
    say_who_stays "$1"
    DESIRED=
    if is_pinned "$1"; then
        if asked refresh; then
            # The group takes the version over when the refresh succeeds, and goes back by itself when it fails.
            DESIRED=$(configuration "$1")
        else
            PINNING=yes
            pin "$1" call
        fi
    fi
    ! asked refresh || refresh
}

# pin VERSION|'' call|insist
pin() {
    local json
    if [ -n "$1" ]; then say "the group $(opt asg) uses version $1"; else say "the group $(opt asg) uses its version of before"; fi
    json=$(configuration "$1")
    if [ "$(jq -r 'keys[0]' <<<"$json")" = LaunchTemplate ]; then
        "$2" autoscaling update-auto-scaling-group --auto-scaling-group-name "$(opt asg)" \
            --launch-template "$(jq -r '.LaunchTemplate | "LaunchTemplateId=\(.LaunchTemplateId),Version=\(.Version)"' <<<"$json")"
    else
        "$2" autoscaling update-auto-scaling-group --auto-scaling-group-name "$(opt asg)" \
            --mixed-instances-policy "$(jq -c .MixedInstancesPolicy <<<"$json")"
    fi
}

# Puts back what publish or rollback may have changed. What couldn't be is said.
undo_publish() {
    local version ok=0
    [ "$PUBLISHING" = yes ] || return 0
    say "putting the launch template $TEMPLATE_NAME back as it was"
    undo_refresh || ok=1
    if [ "$PINNING" = yes ]; then
        pin '' insist || { ok=1 && say "the group $(opt asg) should use its version of before again: $(complaint)"; }
    fi
    if [ "$DEFAULTING" = yes ]; then
        insist ec2 modify-launch-template --launch-template-id "$TEMPLATE" --default-version "$DEFAULT" ||
            { ok=1 && say "the default of $TEMPLATE_NAME should be $DEFAULT again: $(complaint)"; }
    fi
    if [ "$VERSIONING" = yes ]; then
        insist ec2 describe-launch-template-versions --launch-template-id "$TEMPLATE" --min-version "$LATEST" ||
            { ok=1 && say "look for a version of run $RUN in $TEMPLATE_NAME: $(complaint)"; }
        for version in $(pick --arg run "ami-bake $RUN," '.LaunchTemplateVersions[] |
            select((.VersionDescription // "") | startswith($run)) | .VersionNumber'); do
            insist ec2 delete-launch-template-versions --launch-template-id "$TEMPLATE" --versions "$version" ||
                { ok=1 && say "delete version $version of $TEMPLATE_NAME: $(complaint)"; }
        done
    fi
    refresh_back || ok=1
    return "$ok"
}

# The version before the one that is used, from the descriptions that ami-bake writes, in BEFORE.
find_before() {
    local version=$CURRENT looks=0 published='^ami-bake .*, before: ([0-9]+)$' copied='^ami-bake .*, again: ([0-9]+)$'
    while [ "$looks" -lt 20 ]; do
        image_of "$version"
        if [[ $SAID =~ $published ]]; then
            BEFORE=${BASH_REMATCH[1]}
            return
        elif [[ $SAID =~ $copied ]]; then
            version=${BASH_REMATCH[1]} # a copy of it
        else
            break
        fi
        looks=$((looks + 1))
    done
    die "version $CURRENT of $TEMPLATE_NAME was not published by ami-bake: say with --to-version which one to go back to"
}

rollback() {
    local version image
    asked launch-template || asked asg || wrong "rollback wants --launch-template or --asg"
    check_refresh_flags
    read_template
    version=$(opt to-version)
    if [ -z "$version" ]; then
        find_before
        version=$BEFORE
    fi
    [[ $version =~ ^[1-9][0-9]*$ ]] || wrong "--to-version wants the number of a version"
    if [ "$version" = "$CURRENT" ] && [ "$version" = "$DEFAULT" ] && ! is_pinned "$version"; then
        die "version $version of $TEMPLATE_NAME is used already"
    fi
    # A version whose image is gone would leave the group without new instances.
    image_of "$version"
    image=$NAMED
    case $image in
        ami-*)
            call ec2 describe-images --image-ids "$image"
            [ "$(pick '.Images[0].State')" = available ] || die "the image $image of version $version is not available"
            ;;
    esac
    if asked dry-run; then
        if latest_is_followed && [ "$version" != "$LATEST" ]; then
            echo "rollback   a copy of version $version, with $image, becomes the latest and the default of $TEMPLATE_NAME, after $DEFAULT"
        else
            echo "rollback   the default of $TEMPLATE_NAME goes from version $DEFAULT to $version, with $image"
        fi
        plan_group
        return
    fi
    # Who follows $Latest only goes back to what is the latest.
    if latest_is_followed && [ "$version" != "$LATEST" ]; then
        say "a group follows \$Latest: a copy of version $version becomes the latest"
        new_version "$version" "$image" "again: $version"
        version=$VERSION_MADE
    fi
    set_default "$version"
    move_group "$version"
    watch_refresh
    trap '' INT TERM HUP
    PUBLISHING=no
    echo "$TEMPLATE_NAME $version $image"
}
