//! What `export` says an account needs, judged by linters of AWS's and others'. Needs what scripts/setup installs.

use std::process::Command;

use serde_json::Value;
use ssmbake_tests::{must, ssmbake, tool};

/// A region of each partition that the linters know.
const REGIONS: [&str; 3] = ["eu-west-1", "cn-north-1", "us-gov-west-1"];

fn export(arguments: &[&str]) -> Value {
    let mut command = ssmbake(&["export", "--output", "json"]);
    let text = must(command.args(arguments)).stdout;
    serde_json::from_slice(&text).expect("JSON")
}

#[test]
fn templates_pass_cfn_lint_in_every_partition() {
    let dir = tempfile::tempdir().expect("directory");
    for region in REGIONS {
        for target in ["ec2", "hybrid"] {
            for bucket in [&[][..], &["--output-bucket", "my-bucket"]] {
                let file = dir.path().join("stack.json");
                let mut arguments = vec![
                    "--format",
                    "cloudformation",
                    "--target",
                    target,
                    "--region",
                    region,
                ];
                arguments.extend(bucket);
                arguments.extend(["--out", file.to_str().expect("UTF-8")]);
                let template = export(&arguments);
                let resources = template["Resources"].as_object().expect("resources");
                let has = |name: &str| resources.contains_key(name);
                assert_eq!(has("MachineProfile"), target == "ec2");
                assert_eq!(has("SsmmessagesEndpoint") && has("S3Endpoint"), target == "ec2");
                assert_eq!(has("OutputBucket"), bucket.is_empty());
                if target == "ec2" {
                    gateway_lets_through_what_the_role_may(&template);
                }
                assert!(has("CommandRule") && has("CommandTopicPolicy") && has("MachineRole"));
                must(
                    Command::new(tool("cfn-lint"))
                        .args(["-r", region, "-t"])
                        .arg(&file),
                );
            }
        }
    }
}

/// All traffic unless it is asked for less, and then each S3 action of the role.
fn gateway_lets_through_what_the_role_may(template: &Value) {
    assert_eq!(template["Parameters"]["S3Traffic"]["Default"], "all");
    let policy = &template["Resources"]["S3Endpoint"]["Properties"]["PolicyDocument"]["Fn::If"];
    assert_eq!(
        (&policy[0], &policy[2]["Ref"]),
        (&"OnlyAgent".into(), &"AWS::NoValue".into())
    );
    let gateway = policy[1]["Statement"].as_array().expect("statements");
    let role = &template["Resources"]["MachineRole"]["Properties"]["Policies"][0]["PolicyDocument"];
    let mut actions = Vec::new();
    for statement in role["Statement"].as_array().expect("statements") {
        let Some(action) = statement["Action"]
            .as_str()
            .filter(|action| action.starts_with("s3:"))
        else {
            assert!(!statement["Action"].to_string().contains("\"s3:"), "{statement}");
            continue;
        };
        let is_through = |one: &&Value| {
            one["Action"] == action && one["Resource"] == statement["Resource"] && one["Principal"] == "*"
        };
        assert!(
            gateway.iter().any(|one| is_through(&one)),
            "{statement}: {gateway:#?}"
        );
        actions.push(action);
    }
    assert_eq!(
        actions,
        ["s3:GetObject", "s3:PutObject", "s3:GetEncryptionConfiguration"]
    );
}

/// Parliament's library: its program wants a terminal.
const LINT: &str = "import sys\nfrom parliament import analyze_policy_string\n\
    found = [f for f in analyze_policy_string(sys.argv[1]).findings]\nprint(found)\nsys.exit(bool(found))";

#[test]
fn policies_pass_an_iam_linter_in_every_partition() {
    for region in REGIONS {
        let mut arguments = vec!["--format", "iam", "--region", region, "--account", "123456789012"];
        arguments.extend(["--output-bucket", "my-bucket", "--target"]);
        let other = if region == "eu-west-1" {
            vec!["--also-region", "us-east-1"]
        } else {
            vec![]
        };
        for target in ["ec2", "hybrid"] {
            let mut all = arguments.clone();
            all.push(target);
            all.extend(&other);
            let document = export(&all);
            let policy = document["Policy"].to_string();
            must(Command::new(tool("python3")).args(["-c", LINT, &policy]));
            assert!(policy.contains(&format!("amazon-ssm-{region}/*")), "{policy}");
            assert_eq!(policy.contains("us-east-1"), !other.is_empty(), "{policy}");
            let trust = document["TrustPolicy"].to_string();
            assert_eq!(trust.contains("123456789012"), target == "hybrid", "{trust}");
            let service = match (target, region) {
                ("hybrid", _) => "ssm.amazonaws.com\"",
                (_, "cn-north-1") => "ec2.amazonaws.com.cn\"",
                _ => "ec2.amazonaws.com\"",
            };
            assert!(trust.contains(service), "{trust}");
        }
    }
}
