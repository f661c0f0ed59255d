//! What can be looked at in an account: each answer is what the state's `account` says of it, or that all is well.

use serde_json::{Value, json};

use super::{Answer, Call};

pub(super) fn dispatch(state: &mut Value, call: &Call) -> Answer {
    match state["account"][&call.name].as_str() {
        Some("denied") => {
            return Err(("AccessDenied", format!("not authorized to perform: {}", call.name)));
        }
        Some("missing") => return Err(("NotFoundException", "Not Found".to_owned())),
        _ => {}
    }
    if !state["account"][&call.name].is_null() {
        return Ok(state["account"][&call.name].clone());
    }
    Ok(match call.name.as_str() {
        "head-bucket" => Value::String(String::new()),
        "get-instance-profile" => json!({"InstanceProfile": {"Roles": [{"RoleName": "builder"}]}}),
        "list-attached-role-policies" => {
            json!({"AttachedPolicies": [{"PolicyName": "AmazonSSMManagedInstanceCore"}]})
        }
        "describe-instance-types" => {
            json!({"InstanceTypes": [{"ProcessorInfo": {"SupportedArchitectures": ["x86_64"]}}]})
        }
        "describe-instance-type-offerings" => {
            json!({"InstanceTypeOfferings": [{"Location": "euw1-az1"}, {"Location": "euw1-az2"}]})
        }
        "describe-route-tables" => json!({"RouteTables": [{"Routes": [
            {"DestinationCidrBlock": "0.0.0.0/0", "GatewayId": "igw-1", "State": "active"}]}]}),
        "describe-vpc-endpoints" => json!({"VpcEndpoints": []}),
        "describe-key" => {
            json!({"KeyMetadata": {"KeyState": "Enabled", "KeyManager": "CUSTOMER", "Arn": "arn:aws:kms:x:1:key/1"}})
        }
        "list-grants" => json!({"Grants": []}),
        "get-key-policy" => json!({"Policy": "{\"Statement\": \"AWSServiceRoleForAutoScaling\"}"}),
        "simulate-principal-policy" => {
            let results = call.values("action-names").iter();
            json!({"EvaluationResults": results.map(|name| json!({"EvalActionName": name,
                "EvalDecision": "allowed"})).collect::<Vec<_>>()})
        }
        _ => return call.unknown(),
    })
}
