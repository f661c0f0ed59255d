#!/usr/bin/env bash
# The AWS command line, moto_server (AWS without AWS) and cfn-lint, as the tests use them, into target/tools/aws. Prints
# that folder. Where they can't be had it says so and ends with 3: what needs them is left out.
set -euo pipefail
PACKAGES=(awscli==1.46.3 'moto[server]==5.2.5' cfn-lint==1.58.0)
here=$(cd "$(dirname "$0")" && pwd)
tools=${CARGO_TARGET_DIR:-$here/../target}/tools
mkdir -p "$tools"
tools=$(realpath "$tools")

# One at a time: tests run beside each other.
exec 9>"$tools/aws.lock"
flock 9
wanted=${PACKAGES[*]}
if [ "$(cat "$tools/aws/.complete" 2>/dev/null)" != "$wanted" ]; then
    failed() {
        echo "aws, moto_server and cfn-lint can't be installed here: $1" >&2
        exit 3
    }
    "$here/deps.sh" --optional python3 >&2
    # Debian packs a part of venv on its own.
    python3 -c 'import ensurepip' 2>/dev/null || "$here/deps.sh" --optional python3-venv >&2
    echo "Installing $wanted into $tools/aws (half a minute, once)" >&2
    rm -rf "$tools/aws"
    python3 -m venv "$tools/aws" >&2 || failed "python3 -m venv"
    "$tools/aws/bin/pip" install --quiet --disable-pip-version-check "${PACKAGES[@]}" >&2 || failed "pip install"
    echo "$wanted" >"$tools/aws/.complete"
fi
echo "$tools/aws"
