//! From a clean instance to a launch template that works: `ami-bake.sh` and the AWS documents.

mod instance;
