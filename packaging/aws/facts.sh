#!/usr/bin/env bash
# What changed at AWS since packaging/aws/facts.toml was written: compares it with the newest botocore and cfn-lint of the
# package registry, or, where that doesn't answer, with the pinned ones. Exit code as facts.py.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
tools=$("$here/../aws-tools.sh") || exit 3
newest=$(dirname "$tools")/facts
mkdir -p "$newest"
if "$tools/bin/pip" install --quiet --disable-pip-version-check --no-deps --no-compile --upgrade --timeout 15 --retries 1 \
    --target "$newest" botocore cfn-lint >&2; then
    echo "Compared with $(find "$newest" -maxdepth 1 -name '*.dist-info' -printf '%f ' | sed 's/\.dist-info//g')"
else
    echo "The registry does not answer: compared with the pinned versions" >&2
    exec "$tools/bin/python" "$here/facts.py"
fi
exec "$tools/bin/python" "$here/facts.py" --botocore "$newest/botocore" --cfn "$newest/cfnlint"
