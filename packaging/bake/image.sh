# shellcheck shell=bash disable=SC2016,SC2034,SC2153 # variables and functions of the other parts; $ in jq
# image: from a base image to one that was booted and answered.

PUBLISH_ONLY=no
SIZE=  # of the root volume, GiB

# What is to be baked in: where it is, its hash, its version and architecture.
read_rpm() {
    local magic number named='/asg-agent-([0-9][^-/]*)-[^-/]+\.(x86_64|aarch64)\.rpm' held='^asg-agent-([0-9][^-]*)-[^-]+$'
    RPM=$(opt rpm)
    SHA256=$(opt sha256)
    case $RPM in
        s3://*/* | https://*)
            [ -n "$SHA256" ] || wrong "--rpm $RPM wants --sha256 as well"
            [[ $RPM =~ $named ]] ||
                wrong "$RPM is not named as asg-agent-VERSION-RELEASE.ARCHITECTURE.rpm is"
            VERSION=${BASH_REMATCH[1]} ARCH=${BASH_REMATCH[2]}
            ;;
        *)
            [ -r "$RPM" ] || wrong "there is no file $RPM (make rpm writes one to target/rpm)"
            # The lead of every RPM: magic, and at 8 the architecture, 1 for x86 and 19 for aarch64 (rpmrc); at 10 its
            # name, version and release.
            magic=$(od -An -tx1 -N4 "$RPM" | tr -d ' ')
            number=$(od -An -tu1 -j9 -N1 "$RPM" | tr -d ' ')
            [ "$magic" = edabeedb ] || wrong "$RPM is no RPM"
            case $number in
                1) ARCH=x86_64 ;;
                19) ARCH=aarch64 ;;
                *) wrong "$RPM is for neither x86_64 nor aarch64" ;;
            esac
            VERSION=$(tail -c +11 "$RPM" | head -c 66 | tr '\0' '\n' | head -n 1)
            [[ $VERSION =~ $held ]] || wrong "$RPM holds $VERSION, not asg-agent"
            VERSION=${BASH_REMATCH[1]}
            number=$(sha256 <"$RPM")
            [ -z "$SHA256" ] || [ "$SHA256" = "$number" ] || wrong "$RPM has SHA-256 $number, not $SHA256"
            SHA256=$number
            ;;
    esac
    [[ $SHA256 =~ ^[0-9a-f]{64}$ ]] || wrong "--sha256 wants 64 hexadecimal digits"
}

# The image or the instance to begin with.
read_base() {
    local ec2_arch=x86_64
    [ "$ARCH" = x86_64 ] || ec2_arch=arm64
    BASE=$(opt base-ami)
    if asked instance-id; then
        call ec2 describe-instances --instance-ids "$(opt instance-id)"
        case $(pick '.Reservations[0].Instances[0].State.Name') in
            running | stopped) ;;
            *) die "$(opt instance-id) is neither running nor stopped" ;;
        esac
        BASE=$(pick '.Reservations[0].Instances[0].ImageId')
        ROOT=$(pick '.Reservations[0].Instances[0].RootDeviceName')
        BASE_ARCH=$(pick '.Reservations[0].Instances[0].Architecture')
        # Its whole size says how long an image of it may take.
        ! attempt ec2 describe-volumes --filters "Name=attachment.instance-id,Values=$(opt instance-id)" ||
            SIZE=$(pick '[.Volumes[].Size // 0] | add')
    else
        if [ "$BASE" = al2023 ]; then
            call ssm get-parameter \
                --name "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-$ec2_arch"
            BASE=$(pick .Parameter.Value)
        fi
        call ec2 describe-images --image-ids "$BASE"
        [ "$(pick '.Images[0].State')" = available ] || die "the image $BASE is not available in this region"
        [ "$(pick '.Images[0].RootDeviceType')" = ebs ] || die "the image $BASE has no EBS root volume"
        ROOT=$(pick '.Images[0].RootDeviceName')
        BASE_ARCH=$(pick '.Images[0].Architecture')
        root_size
    fi
    [ "$BASE_ARCH" = "$ec2_arch" ] || die "the RPM is for $ARCH, $BASE is $BASE_ARCH"
    TYPE=$(opt instance-type)
    if [ -z "$TYPE" ]; then
        TYPE=t3.micro
        [ "$ARCH" = x86_64 ] || TYPE=t4g.micro
    fi
}

# The size of the root volume, out of what describe-images has just said.
root_size() {
    SIZE=$(pick --arg root "$ROOT" '.Images[0].BlockDeviceMappings[] | select(.DeviceName == $root) | .Ebs.VolumeSize')
}

# The name says all that went in: two runs with the same inputs make one image.
name_image() {
    local hash
    hash=$(printf '%s\n' "$BASE" "$SHA256" "$(sha256 <"$PARTS/instance.sh")" "$(opt kms-key)" \
        "$(opt nginx-conf)" \
        "$(rpm_key | sha256)" | sha256)
    # What an instance holds can't be known beforehand: its image is never taken for an earlier one.
    ! asked instance-id || hash=$(printf '%s\n' "$hash" "$(opt instance-id)" "$RUN" | sha256)
    NAME=asg-agent-$VERSION-$ARCH-${hash:0:12}
}

rpm_key() { if asked rpm-key; then cat "$(opt rpm-key)"; fi; }

# Whether that image is there. One that never passed its boot test is nobody's to use.
find_image() {
    call ec2 describe-images --owners self --filters "Name=name,Values=$NAME"
    IMAGE=$(pick '.Images[0].ImageId')
    [ -n "$IMAGE" ] || return 0
    if [ "$(pick '.Images[0].State')" = available ] &&
        [ -n "$(pick --arg key "$TESTED_TAG" '.Images[0].Tags[]? | select(.Key == $key) | .Value')" ]; then
        PUBLISH_ONLY=yes
        return 0
    fi
    die "$IMAGE has the name $NAME and was never tested: another run is at work, or was killed; then remove it with" \
        "ami-bake.sh prune --run $(pick --arg key "$RUN_TAG" '.Images[0].Tags[]? | select(.Key == $key) | .Value')"
}

# Without --subnet: a default subnet in a zone where the type is offered, the first by zone id (a zone's name means
# another place in each account, its id doesn't: EC2 guide, "Availability Zone IDs").
read_network() {
    SUBNET=$(opt subnet)
    if [ -n "$SUBNET" ]; then
        call ec2 describe-subnets --subnet-ids "$SUBNET"
        ZONE=$(pick '.Subnets[0].AvailabilityZoneId')
    else
        local subnets zones
        call ec2 describe-subnets --filters Name=default-for-az,Values=true
        subnets=$OUT
        [ "$(pick '.Subnets | length')" != 0 ] ||
            die "there is no default subnet in this region: name one that reaches SSM with --subnet"
        zones='[]'
        ! attempt ec2 describe-instance-type-offerings --location-type availability-zone-id \
            --filters "Name=instance-type,Values=$TYPE" || zones=$(pick -c '[.InstanceTypeOfferings[].Location]')
        OUT=$subnets
        SUBNET=$(pick --argjson zones "${zones:-[]}" '.Subnets
            | (map(select(.AvailabilityZoneId as $z | $zones | index($z))) | if length > 0 then . else null end) // .
            | sort_by(.AvailabilityZoneId)[0].SubnetId')
        ZONE=$(pick --arg id "$SUBNET" '.Subnets[] | select(.SubnetId == $id) | .AvailabilityZoneId')
    fi
    VPC=$(pick --arg id "$SUBNET" '.Subnets[] | select(.SubnetId == $id) | .VpcId')
    ZONE=${ZONE:-an unknown zone}
}

plan() {
    local encrypted="encrypted gp3"
    ! asked kms-key || encrypted+=" with $(opt kms-key)"
    echo "image      $NAME in account $ACCOUNT"
    if [ "$PUBLISH_ONLY" = yes ]; then
        echo "is there   $IMAGE: nothing is baked"
    else
        ! asked instance-id || echo "source     an image of $(opt instance-id), which reboots; removed at the end"
        echo "base       $BASE, $BASE_ARCH, root $ROOT"
        echo "rpm        $RPM, $VERSION, SHA-256 $SHA256"
        case $RPM in https://* | s3://*) ;; *) echo "upload     to s3://$BUCKET/$OBJECT_KEY; removed at the end" ;; esac
        echo "builder    $TYPE in $SUBNET ($ZONE), $encrypted, IMDSv2, no key pair, no ingress, profile $PROFILE"
        echo "on it      install, verify, clean, clean --check; stop; create-image; modify-image-attribute: IMDSv2"
        echo "boot test  a second $TYPE from the new image: verify --booted"
    fi
    plan_publish
}

# A folder of its own in the bucket for the RPM, where the builder gets it from by a signed URL.
hand_over_rpm() {
    local source
    case $RPM in
        https://*)
            URL=$RPM
            return
            ;;
        s3://*) source=$RPM ;;
        *)
            source=s3://$BUCKET/$OBJECT_KEY
            say "uploading $RPM to $source"
            UPLOADED=yes
            call s3api put-object --bucket "$BUCKET" --key "$OBJECT_KEY" --body "$RPM" \
                --expected-bucket-owner "$ACCOUNT"
            ;;
    esac
    presign "$source"
}

# A URL for the builder, in URL: for the endpoint of the bucket's own region, with Signature Version 4. The command line
# 1 signs for s3.amazonaws.com otherwise, which redirects for a new bucket, and for us-east-1 with version 2, which
# fails for a bucket that is encrypted with KMS.
presign() {
    local bucket region suffix=amazonaws.com config=$SCRATCH/aws-config
    bucket=${1#s3://}
    bucket=${bucket%%/*}
    call s3api get-bucket-location --bucket "$bucket"
    region=$(pick .LocationConstraint) # none: us-east-1; EU: eu-west-1
    case $region in
        '' | null) region=us-east-1 ;;
        EU) region=eu-west-1 ;;
        cn-*) suffix=amazonaws.com.cn ;;
    esac
    # A copy of the configuration, so that the user's stays as it is.
    (umask 077 && cat "${AWS_CONFIG_FILE:-${HOME:-}/.aws/config}" >"$config" 2>/dev/null) || true
    AWS_CONFIG_FILE=$config aws configure set s3.signature_version s3v4 >"$SCRATCH/err" 2>&1 ||
         die "aws configure set: $(complaint)"
    AWS_CONFIG_FILE=$config aws configure set s3.addressing_style virtual >"$SCRATCH/err" 2>&1 ||
         die "aws configure set: $(complaint)"
    URL=$(AWS_CONFIG_FILE=$config aws s3 presign "$1" --expires-in 3600 --region "$region" \
        --endpoint-url "${AWS_ENDPOINT_URL_S3:-${AWS_ENDPOINT_URL:-https://s3.$region.$suffix}}" 2>"$SCRATCH/err") ||
        die "aws s3 presign failed: $(complaint)"
    rm -f "$config"
    case $URL in
        *X-Amz-Signature=*) ;;
        *) die "aws s3 presign signed with Signature Version 2, which not every bucket takes: update the command line ($(aws --version 2>&1 | head -n 1))" ;;
    esac
}

image_is_available() {
    attempt ec2 describe-images --image-ids "$1" || {
        grep -q NotFound "$SCRATCH/err" && return 1 # just asked for
        return 2
    }
    case $(pick '.Images[0].State') in
        available) return 0 ;;
        pending | '') return 1 ;;
    esac
    pick '.Images[0].StateReason.Message' >"$SCRATCH/err"
    return 2
}

# An image of an instance, and its id in IMAGE: make_image INSTANCE NAME [KEY=VALUE…]. An instance that runs is
# rebooted by EC2 for it: --no-reboot, which would copy files half written, is never given.
make_image() {
    local instance=$1 name=$2
    shift 2
    say "making the image $name of $instance"
    call ec2 create-image --instance-id "$instance" --name "$name" --description "ami-bake $RUN from $BASE" \
        --tag-specifications "$(tags image "$name" "$@")" "$(tags snapshot "$name" "$@")"
    field IMAGE ImageId
    # A first snapshot takes its time by what is on the disk: another 20 minutes for each 50 GiB.
    PATIENCE=$((PATIENCE * (1 + ${SIZE:-0} / 50))) until_true "the image $IMAGE" image_is_available "$IMAGE" || die "the image $IMAGE: $(complaint)"
}

bake() {
    local source=$BASE builder more=() mapping
    if asked instance-id; then
        make_image "$(opt instance-id)" "ami-bake-$RUN-source"
        source=$IMAGE
        root_size
    fi
    hand_over_rpm
    call ec2 create-security-group --group-name "ami-bake-$RUN" --description "ami-bake: no ingress" \
        --vpc-id "$VPC" --tag-specifications "$(tags security-group "ami-bake-$RUN")"
    field GROUP GroupId
    mapping="VolumeType=gp3,Encrypted=true,DeleteOnTermination=true${SIZE:+,VolumeSize=$SIZE}"
    ! asked kms-key || mapping+=",KmsKeyId=$(opt kms-key)"
    launch builder "$source" --block-device-mappings "DeviceName=$ROOT,Ebs={$mapping}"
    builder=$INSTANCE
    ! asked rpm-key || more=(--rpm-key-base64 "$(rpm_key | base64 | tr -d '\n')")
    ! asked nginx-conf || more+=(--nginx-conf "$(opt nginx-conf)")
    step 1800 install --rpm-url "$URL" --sha256 "$SHA256" --run "$RUN" --base "$BASE" ${more[@]+"${more[@]}"}
    step 600 verify
    MODES=$(sed -n 's/^ok    modes that work here: //p' "$SCRATCH/said" | tail -n 1)
    step 300 clean
    step 60 clean --check
    stop_instance "$builder"
    make_image "$builder" "$NAME" "$NAME_TAG=$NAME" "ami-bake:base=$BASE" "ami-bake:rpm-sha256=$SHA256" \
        ${MODES:+"ami-bake:modes=$MODES"}
    call ec2 modify-image-attribute --image-id "$IMAGE" --imds-support v2.0
    terminate_instance "$builder"
    launch boot-test "$IMAGE"
    step 600 verify --booted
    terminate_instance "$INSTANCE"
    call ec2 create-tags --resources "$IMAGE" --tags "Key=$TESTED_TAG,Value=$RUN"
}

image() {
    asked rpm || wrong "image wants --rpm"
    asked base-ami || asked instance-id || wrong "image wants --base-ami or --instance-id"
    ! asked base-ami || ! asked instance-id || wrong "--base-ami and --instance-id exclude each other"
    check_refresh_flags
    check_tags
    ! asked rpm-key || [ -r "$(opt rpm-key)" ] || wrong "there is no file $(opt rpm-key)"
    read_rpm
    call sts get-caller-identity
    field ACCOUNT Account
    local region=${AWS_REGION:-${AWS_DEFAULT_REGION:-$(aws configure get region || true)}}
    BUCKET=$(opt bucket)
    BUCKET=${BUCKET:-asg-agent-bake-$ACCOUNT-$region}
    OBJECT_KEY=ami-bake/$RUN/${RPM##*/}
    PROFILE=$(opt instance-profile)
    PROFILE=${PROFILE:-asg-agent-bake-$region}
    read_base
    name_image
    find_image
    [ "$PUBLISH_ONLY" = yes ] || read_network
    read_template
    if asked dry-run; then
        plan
        [ "$PUBLISH_ONLY" = yes ] || check_account
        return
    fi
    if [ "$PUBLISH_ONLY" = yes ]; then
        say "$IMAGE is $NAME already: nothing to bake"
    else
        say "run $RUN makes $NAME"
        MADE_ANYTHING=yes
        bake
    fi
    publish "$IMAGE"
    watch_refresh
    trap '' INT TERM HUP # from here on it is done
    KEEP_IMAGE=$IMAGE
    PUBLISHING=no
    echo "$IMAGE $NAME"
}
