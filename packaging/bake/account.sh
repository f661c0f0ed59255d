# shellcheck shell=bash disable=SC2016,SC2034,SC2153,SC2154 # variables and functions of the other parts; $ in jq
# What can be known of the account before anything is made in it: looks only, each printed as ok, FAIL, or as what can't
# be told from here. image --dry-run ends with it, doctor begins with it.

WRONG=0
good() { echo "ok    $*"; }
bad() {
    echo "FAIL  $*"
    WRONG=$((WRONG + 1))
}
unknown() { echo "--    $*"; }
# What a look that failed means: FAIL where AWS says that it isn't there, else it can't be told.
# not_there WHAT REMEDY
not_there() {
    if grep -Eq 'NotFound|NoSuch|does not exist|\(404\)|Not Found' "$SCRATCH/err"; then
        bad "$1 is not there: $2"
    else
        unknown "$1: can't be told ($(complaint | cut -c 1-160))"
    fi
}

check_bucket() {
    case $(opt rpm) in
        s3://* | https://*) unknown "whether $(opt rpm) can be read is seen when it is fetched" && return 0 ;;
    esac
    if attempt s3api head-bucket --bucket "$BUCKET" --expected-bucket-owner "$ACCOUNT"; then
        good "the bucket $BUCKET is there"
    else
        not_there "the bucket $BUCKET" "deploy packaging/aws/bake.yaml, or name another with --bucket"
    fi
}

check_profile() {
    local role
    if attempt iam get-instance-profile --instance-profile-name "$PROFILE"; then
        role=$(pick '.InstanceProfile.Roles[0].RoleName')
        if [ -z "$role" ]; then
            bad "the instance profile $PROFILE has no role"
        elif ! attempt iam list-attached-role-policies --role-name "$role"; then
            unknown "what the role $role may do: $(complaint | cut -c 1-160)"
        elif [ -n "$(pick '.AttachedPolicies[] | select(.PolicyName | test("SSMManagedInstance")) | .PolicyName')" ]; then
            good "the instance profile $PROFILE lets Systems Manager in"
        else
            unknown "the role $role has no policy named AmazonSSMManagedInstanceCore: it must allow the same"
        fi
    else
        not_there "the instance profile $PROFILE" "deploy packaging/aws/bake.yaml, or name another with --instance-profile"
    fi
}

check_type() {
    local arch=x86_64
    [ "${ARCH:-x86_64}" = x86_64 ] || arch=arm64
    if ! attempt ec2 describe-instance-types --instance-types "$TYPE"; then
        if grep -q InvalidInstanceType "$SCRATCH/err"; then bad "there is no instance type $TYPE in this region"; else
            unknown "the instance type $TYPE: $(complaint | cut -c 1-160)"
        fi
        return 0
    fi
    [ -n "$(pick --arg arch "$arch" '.InstanceTypes[0].ProcessorInfo.SupportedArchitectures[] | select(. == $arch)')" ] ||
        bad "the instance type $TYPE is not of the architecture $arch: name one with --instance-type"
    if ! attempt ec2 describe-instance-type-offerings --location-type availability-zone-id \
        --filters "Name=instance-type,Values=$TYPE"; then
        unknown "where $TYPE is offered: $(complaint | cut -c 1-160)"
    elif [ -n "$(pick --arg zone "$ZONE" '.InstanceTypeOfferings[] | select(.Location == $zone) | .Location')" ]; then
        good "$TYPE is offered in $ZONE"
    else
        bad "$TYPE is not offered in $ZONE, but in $(pick '[.InstanceTypeOfferings[].Location] | sort | join(" ")'): --subnet or --instance-type"
    fi
}

# The builder is reached over Systems Manager: by a route to the internet, or by endpoints of it in the VPC.
check_route() {
    local target public endpoints name missing=''
    attempt ec2 describe-subnets --subnet-ids "$SUBNET" || { not_there "the subnet $SUBNET" "name another with --subnet" && return 0; }
    public=$(pick '.Subnets[0].MapPublicIpOnLaunch')
    attempt ec2 describe-route-tables --filters "Name=association.subnet-id,Values=$SUBNET" ||
        { unknown "the routes of $SUBNET: $(complaint | cut -c 1-160)" && return 0; }
    if [ "$(pick '.RouteTables | length')" = 0 ]; then
        attempt ec2 describe-route-tables --filters "Name=vpc-id,Values=$VPC" Name=association.main,Values=true ||
            { unknown "the routes of $VPC: $(complaint | cut -c 1-160)" && return 0; }
    fi
    target=$(pick '[.RouteTables[].Routes[] | select(.DestinationCidrBlock == "0.0.0.0/0" and (.State // "active") == "active")
        | .NatGatewayId // .GatewayId // .TransitGatewayId // .NetworkInterfaceId // .InstanceId // empty][0]')
    case $target in
        igw-*)
            if [ "$public" = true ]; then
                good "$SUBNET reaches Systems Manager through $target"
            else
                bad "$SUBNET has a route to $target but gives instances no public address: they reach nothing; name another with --subnet"
            fi
            return 0
            ;;
        ?*) good "$SUBNET reaches Systems Manager through $target" && return 0 ;;
    esac
    attempt ec2 describe-vpc-endpoints --filters "Name=vpc-id,Values=$VPC" ||
        { unknown "the endpoints of $VPC: $(complaint | cut -c 1-160)" && return 0; }
    endpoints=$(pick '.VpcEndpoints[] | select(.State == "available") | .ServiceName')
    for name in ssm ssmmessages s3; do
        grep -q "\.$name\$" <<<"$endpoints" || missing+=" $name"
    done
    if [ -n "$missing" ]; then
        bad "$SUBNET has no way out, and $VPC no endpoint of$missing: the builder can't be reached"
    else
        unknown "$SUBNET has no way out; Systems Manager and S3 have endpoints, packages (nginx, nftables) come only from S3"
    fi
}

# Images encrypted with a key of the account's own start in a group only where the group's service-linked role may use
# it, by the key's policy or by a grant (EC2 Auto Scaling guide, "Required AWS KMS key policy for use with encrypted
# volumes").
check_key() {
    local key
    key=$(opt kms-key)
    if [ -z "$key" ]; then
        good "volumes are encrypted with the account's default key for EBS"
        return 0
    fi
    if ! attempt kms describe-key --key-id "$key"; then
        not_there "the key $key" "name another with --kms-key" && return 0
    fi
    [ "$(pick .KeyMetadata.KeyState)" = Enabled ] || bad "the key $key is $(pick .KeyMetadata.KeyState)"
    if [ "$(pick .KeyMetadata.KeyManager)" = AWS ]; then
        good "the key $key is AWS's own for this account: its images can't be shared" && return 0
    fi
    key=$(pick .KeyMetadata.Arn)
    if attempt kms list-grants --key-id "$key" && grep -q AWSServiceRoleForAutoScaling <<<"$OUT"; then
        good "the group's service-linked role has a grant for $key"
    elif attempt kms get-key-policy --key-id "$key" --policy-name default && grep -q AWSServiceRoleForAutoScaling <<<"$OUT"; then
        good "the policy of $key names the group's service-linked role"
    elif grep -Eq 'AccessDenied|NotAuthorized' "$SCRATCH/err"; then
        unknown "whether the group's service-linked role may use $key: $(complaint | cut -c 1-160)"
    else
        bad "the group's service-linked role may not use $key, so no instance would start: aws kms create-grant --key-id $key" \
            "--grantee-principal arn:aws:iam::$ACCOUNT:role/aws-service-role/autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling" \
            "--operations Encrypt Decrypt ReEncryptFrom ReEncryptTo GenerateDataKey GenerateDataKeyWithoutPlaintext DescribeKey CreateGrant"
    fi
}

# What image would use.
check_account() {
    check_bucket
    check_profile
    check_type
    check_route
    check_key
    unknown "whether the builder can install packages, and whether you may do each of these calls: ami-bake.sh doctor asks"
    [ "$WRONG" -eq 0 ] || die "$WRONG things are wrong: image would fail"
}
