#!/usr/bin/env bash
# Bakes the agent into an AMI, and puts that AMI into a launch template. Needs bash 3.2 (macOS) or later, on the
# instance 4.2 (Amazon Linux 2). On the instance that becomes the image: install, verify, clean. From anywhere with AWS
# credentials: image, rollback, prune, doctor, acceptance. What each does is in `ami-bake.sh help`; the parts are in
# packaging/bake.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PARTS=$HERE/packaging/bake

usage() {
    cat <<'USAGE'
ami-bake.sh: from a clean instance to a launch template that works

On the instance that becomes the image, as root (packaging/bake/instance.sh, which can also be copied alone):
  install  --rpm FILE|--rpm-url URL [--sha256 HEX] [--rpm-key FILE] [--nginx-conf FILE] [--root DIR]
  verify   [--booted] [--root DIR]      refuse an image that would not work
  clean    [--check] [--root DIR]       remove what must not be in an image, then prove it, item by item

From anywhere with AWS credentials (needs the AWS command line and jq):
  image    --rpm FILE|s3://BUCKET/KEY|https://URL [--sha256 HEX] --base-ami AMI|al2023 | --instance-id ID
           [--launch-template NAME] [--asg NAME [--refresh [--watch …]]] [--region REGION] [--dry-run]
           [--bucket NAME] [--instance-profile NAME] [--instance-type TYPE] [--subnet ID] [--kms-key ID]
           [--rpm-key FILE] [--nginx-conf FILE-ON-THE-INSTANCE] [--tags KEY=VALUE,…]
  rollback --launch-template NAME | --asg NAME [--to-version N] [--refresh [--watch …]] [--region REGION] [--dry-run]
           --watch: wait, and undo a refresh that fails, costs clients too much, or makes a CloudWatch alarm ring:
           [--checkpoint PCT] [--url URL --max-error-pct PCT] [--alarms NAME,…]
  prune    --keep N|--all [--launch-template NAME] | --run ID [--all]   [--region REGION] [--dry-run]
  doctor   [--asg NAME] [--rpm FILE] [--bucket …] [--instance-profile …] [--instance-type …] [--subnet …] [--kms-key …]
           [--region REGION]     look whether image could work from here; touches nothing
  acceptance --rpm FILE --region REGION [--report NAME] [--instance-type TYPE] [--client-cidr CIDR] [--yes]
           prove all of it in your account, say so in NAME.html and NAME.json, and remove it (an hour, below 1 USD)

image launches a builder (IMDSv2, encrypted gp3, no key pair, no ingress), installs, verifies and cleans over SSM,
stops it, makes the image, boots that and verifies it again; only then a new version of the launch template becomes
its default, and the version before is kept for rollback. --refresh starts an instance refresh of the group. The same
inputs give the same image name: where that image is there already, none is made. An --instance-id is imaged first,
which reboots it, and all work is done on a copy. Interrupted or failing anywhere, everything with the id of the run is
removed and the launch template is as before; after a SIGKILL, prune --run ID does that.

Exit code: 0 done, 1 it failed and was undone, 2 wrong usage, 130 and 143 interrupted and undone.
packaging/aws/README.md tells what is needed in the account, once, and how Terraform and the console come in.
USAGE
}

# What goes wrong before anything was touched: one line, and the way to the help.
wrong() {
    echo "ami-bake: $*; see ami-bake.sh help" >&2
    exit 2
}

verb=${1:-}
[ $# -eq 0 ] || shift
case $verb in
    install | verify | clean) exec bash "$PARTS/instance.sh" "$verb" "$@" ;;
    image | rollback | prune | doctor | acceptance) ;;
    help | -h | --help) usage && exit 0 ;;
    '') usage >&2 && exit 2 ;;
    *) wrong "no verb $verb" ;;
esac

# The flags of each verb; those of others are refused, not ignored. bash 3.2 has no tables: a variable for each flag.
# shellcheck disable=SC2086 # words are wanted
unset ${!OPT_@} || true
case $verb in
    image)
        takes=' rpm sha256 base-ami instance-id launch-template asg region bucket instance-profile instance-type subnet kms-key rpm-key nginx-conf tags url max-error-pct checkpoint alarms '
        switches=' dry-run refresh watch '
        ;;
    rollback) takes=' launch-template asg to-version region url max-error-pct checkpoint alarms ' switches=' dry-run refresh watch ' ;;
    prune) takes=' keep run launch-template region ' switches=' dry-run all ' ;;
    acceptance) takes=' rpm region report instance-type client-cidr ' switches=' yes ' ;;
    doctor) takes=' region rpm base-ami bucket instance-profile instance-type subnet kms-key asg launch-template ' switches='' ;;
esac
set_opt() { printf -v "OPT_${1//-/_}" %s "$2"; }
while [ $# -gt 0 ]; do
    flag=${1#--}
    case $1 in
        --*=*) set -- "--${flag%%=*}" "${flag#*=}" "${@:2}" && continue ;;
        --*)
            if [[ $switches == *" $flag "* ]]; then
                set_opt "$flag" 1 && shift && continue
            fi
            ;;
    esac
    [[ $1 == --* && $takes == *" $flag "* ]] || wrong "$verb takes no $1"
    [ -n "${2:-}" ] || wrong "$1 wants a value"
    set_opt "$flag" "$2"
    shift 2
done

# shellcheck source=packaging/bake/common.sh
. "$PARTS/common.sh"
# shellcheck source=packaging/bake/remove.sh
. "$PARTS/remove.sh"
# shellcheck source=packaging/bake/publish.sh
. "$PARTS/publish.sh"
# shellcheck source=packaging/bake/refresh.sh
. "$PARTS/refresh.sh"
# shellcheck source=packaging/bake/builder.sh
. "$PARTS/builder.sh"
# shellcheck source=packaging/bake/image.sh
. "$PARTS/image.sh"
# shellcheck source=packaging/bake/account.sh
. "$PARTS/account.sh"
case $verb in
    prune)
        # shellcheck source=packaging/bake/prune.sh
        . "$PARTS/prune.sh"
        ;;
    acceptance)
        # shellcheck source=packaging/bake/acceptance.sh
        . "$PARTS/acceptance.sh"
        ;;
    doctor)
        # shellcheck source=packaging/bake/doctor.sh
        . "$PARTS/doctor.sh"
        ;;
esac
begin
"$verb"
