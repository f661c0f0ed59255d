# shellcheck shell=bash
acceptance() { wrong "acceptance is not here yet"; }
