# shellcheck shell=bash disable=SC2016,SC2034,SC2153,SC2154 # variables and functions of the other parts; $ in jq
# doctor: whether image, prune and acceptance could work from here, in this account. Looks only.

# The actions of bake.yaml's BakerPolicy: what ami-bake.sh calls.
baker_actions() {
    sed -n '/^  BakerPolicy:/,/^  [A-Z]/p' "$HERE/packaging/aws/bake.yaml" |
        sed -n 's/^ *- \([a-z0-9]*:[A-Z][A-Za-z]*\)$/\1/p' | sort -u
}

check_tools() {
    local version
    version=$(aws --version 2>&1 | head -n 1) || true
    case $version in
        aws-cli/2.*) good "AWS command line: ${version%% *}" ;;
        aws-cli/1.*) good "AWS command line: ${version%% *}, of the old line, which works" ;;
        *) bad "the AWS command line says $version of itself" ;;
    esac
    good "bash $BASH_VERSION, $(jq --version)"
    if agent_program >/dev/null; then
        good "the agent is here: $("$(agent_program)" --version)"
    else
        unknown "no agent on this machine: --max-error-pct and acceptance need one (or name it in AMI_BAKE_AGENT)"
    fi
}

# Asks IAM what the caller may do; without condition keys and resources, so what is refused by a condition isn't seen.
check_permissions() {
    local arn=$1 actions denied
    case $arn in
        *:root) unknown "you are the account's root user: better be a role" && return 0 ;;
        *:assumed-role/*)
            arn=${arn/:sts:/:iam:}
            arn=${arn/:assumed-role\//:role/}
            arn=${arn%/*}
            ;;
    esac
    actions=$(baker_actions)
    # shellcheck disable=SC2086 # words are wanted
    if ! attempt iam simulate-principal-policy --policy-source-arn "$arn" --action-names $actions; then
        unknown "what $arn may do: $(complaint | cut -c 1-200)"
        return 0
    fi
    denied=$(pick '.EvaluationResults[] | select(.EvalDecision != "allowed") | .EvalActionName')
    if [ -z "$denied" ]; then
        good "$arn may do all $(wc -l <<<"$actions" | tr -d ' ') actions"
    else
        bad "$arn may not: $(tr '\n' ' ' <<<"$denied")(the policy BakerPolicy of packaging/aws/bake.yaml allows them)"
    fi
}

check_group() {
    local name
    [ -n "$TEMPLATE" ] || return 0
    good "the launch template $TEMPLATE_NAME is there, default $DEFAULT, latest $LATEST"
    name=$(plan_group)
    [ -z "$name" ] || printf '%s\n' "$name"
}

doctor() {
    local region arn
    check_tools
    region=${AWS_REGION:-${AWS_DEFAULT_REGION:-$(aws configure get region || true)}}
    if [ -z "$region" ]; then
        bad "no region: --region, AWS_REGION, or aws configure set region"
        die "nothing more can be looked at"
    fi
    attempt sts get-caller-identity || { bad "no credentials that AWS takes: $(complaint | cut -c 1-200)" && die "nothing more can be looked at"; }
    ACCOUNT=$(pick .Account)
    arn=$(pick .Arn)
    good "account $ACCOUNT, region $region, as $arn"
    BUCKET=$(opt bucket)
    BUCKET=${BUCKET:-asg-agent-bake-$ACCOUNT-$region}
    PROFILE=$(opt instance-profile)
    PROFILE=${PROFILE:-asg-agent-bake-$region}
    if asked rpm; then read_rpm; else ARCH=x86_64; fi
    TYPE=$(opt instance-type)
    if [ -z "$TYPE" ]; then
        TYPE=t3.micro
        [ "$ARCH" = x86_64 ] || TYPE=t4g.micro
    fi
    read_network
    check_bucket
    check_profile
    check_type
    check_route
    check_key
    read_template
    check_group
    check_permissions "$arn"
    unknown "nftables, for the modes drop and reject: seen on the builder, where install brings it and verify tries it"
    [ "$WRONG" -eq 0 ] || die "$WRONG things are wrong"
    say "nothing is wrong that can be seen from here"
}
