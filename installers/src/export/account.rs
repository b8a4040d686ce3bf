//! What the AWS account needs: roles of machines, the buckets that their agents read, endpoints, monitoring, output.

use serde_json::{Value, json};
use ssmbake_manifests::{Access, Grant, Partition, Region};

use crate::plan::TargetKind;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Account<'a> {
    /// Kind of the machines.
    pub target: TargetKind,
    /// Regions of one partition; at least one.
    pub regions: &'a [Region],
    /// Theirs.
    pub partition: &'a Partition,
    /// The account's number; hybrid roles are for its activations only.
    pub account: Option<&'a str>,
    /// A bucket of the user's that the output of commands goes to.
    pub output_bucket: Option<&'a str>,
}

/// A hybrid role that any account could have machines assume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoAccount;

/// The trust policy and the permissions of the machines' role, as two JSON documents in one.
pub fn iam(account: &Account<'_>, access: &Access) -> Result<Value, NoAccount> {
    let partition = &account.partition.id;
    let regions: Vec<&str> = account.regions.iter().map(|region| region.id.as_str()).collect();
    let trust = match account.target {
        TargetKind::Ec2 => trust(&json!(format!("ec2.{}", account.partition.dns_suffix)), None),
        TargetKind::Hybrid => {
            let number = account.account.ok_or(NoAccount)?;
            let arns: Vec<String> = regions
                .iter()
                .map(|region| format!("arn:{partition}:ssm:{region}:{number}:*"))
                .collect();
            trust(&json!("ssm.amazonaws.com"), Some((json!(number), json!(arns))))
        }
    };
    let in_all = |arn: &str| -> Vec<Value> {
        let arn = arn.replace("{partition}", partition);
        regions
            .iter()
            .map(|region| json!(arn.replace("{region}", region)))
            .collect()
    };
    let mut buckets = Vec::new();
    for region in &regions {
        buckets.extend(
            access
                .buckets_of(region)
                .map(|name| json!(format!("arn:{partition}:s3:::{name}/*"))),
        );
    }
    let output = account
        .output_bucket
        .map(|name| json!(format!("arn:{partition}:s3:::{name}")));
    let objects = account
        .output_bucket
        .map(|name| json!(format!("arn:{partition}:s3:::{name}/*")));
    let output = output.zip(objects);
    Ok(json!({
        "TrustPolicy": trust,
        "Policy": permissions(access, &in_all, &json!(regions), &json!(buckets), output),
    }))
}

fn trust(service: &Value, only: Option<(Value, Value)>) -> Value {
    let mut statement = json!({
        "Effect": "Allow",
        "Principal": { "Service": service },
        "Action": "sts:AssumeRole",
    });
    if let Some((account, arns)) = only {
        statement["Condition"] = json!({
            "StringEquals": { "aws:SourceAccount": account },
            "ArnLike": { "aws:SourceArn": arns },
        });
    }
    json!({ "Version": "2012-10-17", "Statement": [statement] })
}

/// `arns` fills partition and regions in; `output` is the bucket and its objects.
fn permissions(
    access: &Access,
    arns: &dyn Fn(&str) -> Vec<Value>,
    regions: &Value,
    buckets: &Value,
    output: Option<(Value, Value)>,
) -> Value {
    let resources = |grant: &Grant| match grant.resources.is_empty() {
        true => json!("*"),
        false => grant.resources.iter().flat_map(|arn| arns(arn)).collect(),
    };
    let mut statements: Vec<Value> = access
        .machine
        .iter()
        .map(|grant| {
            json!({
                "Sid": grant.id,
                "Effect": "Allow",
                "Action": grant.actions,
                "Resource": resources(grant),
                "Condition": { "StringEquals": { "aws:RequestedRegion": regions } },
            })
        })
        .collect();
    statements.push(json!({
        "Sid": "AgentBuckets",
        "Effect": "Allow",
        "Action": "s3:GetObject",
        "Resource": buckets,
    }));
    if let Some((bucket, objects)) = output {
        statements.push(json!({
            "Sid": "Output",
            "Effect": "Allow",
            "Action": "s3:PutObject",
            "Resource": objects,
        }));
        statements.push(json!({
            "Sid": "OutputEncryption",
            "Effect": "Allow",
            "Action": "s3:GetEncryptionConfiguration",
            "Resource": bucket,
        }));
    }
    json!({ "Version": "2012-10-17", "Statement": statements })
}

/// A CloudFormation template of one region; every region of the account gets a stack of it.
pub fn cloudformation(account: &Account<'_>, access: &Access) -> Value {
    let mut parameters = json!({
        "NotificationEmail": {
            "Type": "String",
            "Description": "Who hears of commands that end or fail",
        },
    });
    let mut resources = json!({});
    let mut outputs = json!({});
    let buckets: Vec<Value> = access
        .buckets_of("${AWS::Region}")
        .map(|name| sub(&format!("arn:${{AWS::Partition}}:s3:::{name}/*")))
        .collect();
    let output = output_bucket(account, &mut resources, &mut outputs);
    let here = |arn: &str| {
        let arn = arn
            .replace("{partition}", "${AWS::Partition}")
            .replace("{region}", "${AWS::Region}");
        vec![sub(&arn)]
    };
    let region = json!({ "Ref": "AWS::Region" });
    let policy = permissions(access, &here, &region, &json!(buckets), Some(output));
    let gateway = gateway_policy(&policy);
    role(account.target, policy, &mut resources, &mut outputs);
    let mut conditions = json!({});
    if account.target == TargetKind::Ec2 {
        endpoints(account, access, &mut parameters, &mut resources);
        s3_endpoint(&gateway, &mut parameters, &mut conditions, &mut resources);
    }
    notifications(&mut resources);
    let mut template = json!({
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "What machines with the SSM agent need of this account, for one region",
        "Parameters": parameters,
        "Resources": resources,
        "Outputs": outputs,
    });
    if conditions.as_object().is_some_and(|some| !some.is_empty()) {
        template["Conditions"] = conditions;
    }
    template
}

fn sub(text: &str) -> Value {
    json!({ "Fn::Sub": text })
}

/// The bucket and its objects; it is made where none is named.
fn output_bucket(account: &Account<'_>, resources: &mut Value, outputs: &mut Value) -> (Value, Value) {
    if let Some(name) = account.output_bucket {
        let arn = format!("arn:${{AWS::Partition}}:s3:::{name}");
        return (sub(&arn), sub(&format!("{arn}/*")));
    }
    resources["OutputBucket"] = json!({
        "Type": "AWS::S3::Bucket",
        "DeletionPolicy": "Retain",
        "UpdateReplacePolicy": "Retain",
        "Properties": {
            "BucketEncryption": { "ServerSideEncryptionConfiguration": [
                { "ServerSideEncryptionByDefault": { "SSEAlgorithm": "AES256" } },
            ] },
            "OwnershipControls": { "Rules": [{ "ObjectOwnership": "BucketOwnerEnforced" }] },
            "PublicAccessBlockConfiguration": {
                "BlockPublicAcls": true, "BlockPublicPolicy": true,
                "IgnorePublicAcls": true, "RestrictPublicBuckets": true,
            },
        },
    });
    let arn = json!({ "Fn::GetAtt": ["OutputBucket", "Arn"] });
    let objects = sub("${OutputBucket.Arn}/*");
    resources["OutputBucketPolicy"] = json!({
        "Type": "AWS::S3::BucketPolicy",
        "Properties": {
            "Bucket": { "Ref": "OutputBucket" },
            "PolicyDocument": { "Version": "2012-10-17", "Statement": [{
                "Sid": "OnlyTls",
                "Effect": "Deny",
                "Principal": "*",
                "Action": "s3:*",
                "Resource": [arn, objects],
                "Condition": { "Bool": { "aws:SecureTransport": "false" } },
            }] },
        },
    });
    outputs["OutputBucket"] = json!({ "Value": { "Ref": "OutputBucket" } });
    (arn, objects)
}

fn role(target: TargetKind, policy: Value, resources: &mut Value, outputs: &mut Value) {
    let trust = match target {
        TargetKind::Ec2 => trust(&sub("ec2.${AWS::URLSuffix}"), None),
        TargetKind::Hybrid => trust(
            &json!("ssm.amazonaws.com"),
            Some((
                json!({ "Ref": "AWS::AccountId" }),
                sub("arn:${AWS::Partition}:ssm:${AWS::Region}:${AWS::AccountId}:*"),
            )),
        ),
    };
    resources["MachineRole"] = json!({
        "Type": "AWS::IAM::Role",
        "Properties": {
            "AssumeRolePolicyDocument": trust,
            "Policies": [{ "PolicyName": "ssm-agent", "PolicyDocument": policy }],
        },
    });
    outputs["MachineRole"] = json!({ "Value": { "Ref": "MachineRole" } });
    if target == TargetKind::Ec2 {
        resources["MachineProfile"] = json!({
            "Type": "AWS::IAM::InstanceProfile",
            "Properties": { "Roles": [{ "Ref": "MachineRole" }] },
        });
        outputs["MachineProfile"] = json!({ "Value": { "Ref": "MachineProfile" } });
    }
}

fn endpoints(account: &Account<'_>, access: &Access, parameters: &mut Value, resources: &mut Value) {
    // AWS China has those of these services without its own prefix.
    let prefix = match account.partition.dns_suffix.as_str() {
        "amazonaws.com.cn" => "com.amazonaws".to_owned(),
        suffix => suffix.rsplit('.').collect::<Vec<_>>().join("."),
    };
    let parameter = |kind: &str, description: &str| json!({ "Type": kind, "Description": description });
    parameters["VpcId"] = parameter(
        "AWS::EC2::VPC::Id",
        "The machines' VPC, with DNS host names switched on",
    );
    parameters["VpcCidr"] = parameter("String", "Its addresses, such as 10.0.0.0/16");
    parameters["SubnetIds"] = parameter(
        "List<AWS::EC2::Subnet::Id>",
        "One subnet in each zone of the machines",
    );
    parameters["RouteTableIds"] = parameter("List<String>", "The route tables of the machines' subnets");
    parameters["EndpointPrefix"] = json!({
        "Type": "String",
        "Default": prefix,
        "Description": "What the names of endpoint services in this partition begin with",
    });
    resources["EndpointSecurityGroup"] = json!({
        "Type": "AWS::EC2::SecurityGroup",
        "Properties": {
            "GroupDescription": "HTTPS from the machines to the endpoints of Systems Manager",
            "VpcId": { "Ref": "VpcId" },
            "SecurityGroupIngress": [{
                "IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "CidrIp": { "Ref": "VpcCidr" },
                "Description": "The agents",
            }],
        },
    });
    for service in &access.endpoints {
        let mut name = service.clone();
        name[..1].make_ascii_uppercase();
        resources[format!("{name}Endpoint")] = json!({
            "Type": "AWS::EC2::VPCEndpoint",
            "Properties": {
                "VpcEndpointType": "Interface",
                "ServiceName": sub(&format!("${{EndpointPrefix}}.${{AWS::Region}}.{service}")),
                "VpcId": { "Ref": "VpcId" },
                "SubnetIds": { "Ref": "SubnetIds" },
                "SecurityGroupIds": [{ "Ref": "EndpointSecurityGroup" }],
                "PrivateDnsEnabled": true,
            },
        });
    }
}

/// What the role may do with S3, for a gateway to let through.
fn gateway_policy(role: &Value) -> Value {
    let is_of_s3 = |one: &&Value| {
        one["Action"]
            .as_str()
            .is_some_and(|action| action.starts_with("s3:"))
    };
    let for_all = |one: &Value| {
        let mut one = one.clone();
        one["Principal"] = json!("*");
        one
    };
    let statements = role["Statement"].as_array().into_iter().flatten();
    let statements: Vec<Value> = statements.filter(is_of_s3).map(for_all).collect();
    json!({ "Version": "2012-10-17", "Statement": statements })
}

/// A gateway carries all that its route tables send to S3, packages of Amazon Linux and other programs' data among it:
/// what the agent does not need is cut off only on request.
fn s3_endpoint(gateway: &Value, parameters: &mut Value, conditions: &mut Value, resources: &mut Value) {
    parameters["S3Traffic"] = json!({
        "Type": "String",
        "Default": "all",
        "AllowedValues": ["all", "agent"],
        "Description": "agent cuts off what the route tables send to S3 but for the agent's own, system packages too",
    });
    conditions["OnlyAgent"] = json!({ "Fn::Equals": [{ "Ref": "S3Traffic" }, "agent"] });
    resources["S3Endpoint"] = json!({
        "Type": "AWS::EC2::VPCEndpoint",
        "Properties": {
            "VpcEndpointType": "Gateway",
            "ServiceName": sub("${EndpointPrefix}.${AWS::Region}.s3"),
            "VpcId": { "Ref": "VpcId" },
            "RouteTableIds": { "Ref": "RouteTableIds" },
            "PolicyDocument": { "Fn::If": ["OnlyAgent", gateway, { "Ref": "AWS::NoValue" }] },
        },
    });
}

fn notifications(resources: &mut Value) {
    resources["CommandTopic"] = json!({
        "Type": "AWS::SNS::Topic",
        "Properties": { "Subscription": [{ "Protocol": "email", "Endpoint": { "Ref": "NotificationEmail" } }] },
    });
    resources["CommandRule"] = json!({
        "Type": "AWS::Events::Rule",
        "Properties": {
            "Description": "Commands of Systems Manager whose status changed",
            "EventPattern": {
                "source": ["aws.ssm"],
                "detail-type": ["EC2 Command Status-change Notification"],
            },
            "Targets": [{ "Id": "topic", "Arn": { "Ref": "CommandTopic" } }],
        },
    });
    resources["CommandTopicPolicy"] = json!({
        "Type": "AWS::SNS::TopicPolicy",
        "Properties": {
            "Topics": [{ "Ref": "CommandTopic" }],
            "PolicyDocument": { "Version": "2012-10-17", "Statement": [{
                "Effect": "Allow",
                "Principal": { "Service": "events.amazonaws.com" },
                "Action": "sns:Publish",
                "Resource": { "Ref": "CommandTopic" },
                "Condition": { "ArnEquals": { "aws:SourceArn": { "Fn::GetAtt": ["CommandRule", "Arn"] } } },
            }] },
        },
    });
}
