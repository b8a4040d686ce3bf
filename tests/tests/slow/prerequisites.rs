//! The rows of AWS's list of prerequisites, each good and failing, against a fake AWS in a network namespace. As root.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use ssmbake_tests::tree::debootstrapped;
use ssmbake_tests::world::{V1, apply, deb, mirror};
use ssmbake_tests::{must, outcome};
use tempfile::TempDir;

use crate::live::furnish;

const INTERNET: &str = "203.0.113.5";
const PRIVATE: &str = "10.1.2.3";
const STRANGER: &str = "203.0.113.6";
const SILENT: &str = "203.0.113.7";
const NOBODY: &str = "203.0.113.8";
const SLOW: &str = "203.0.113.9";
/// Its certificate ended yesterday.
const OLD: &str = "203.0.113.10";

const SERVICES: [&str; 6] = ["ssm", "ssmmessages", "ec2messages", "s3", "kms", "logs"];

/// A CA, a leaf for all hosts, and a leaf that nobody vouches for.
const CERTIFICATES: &str = r#"set -e
cd "$0"
key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"; }
key ca; key good; key bad; key old
openssl req -x509 -new -key ca.key -subj '/CN=test CA' -days 30 -out ca.crt
names='DNS:*.eu-west-1.amazonaws.com,DNS:*.us-east-1.amazonaws.com,DNS:*.s3.eu-west-1.amazonaws.com,DNS:*.ssm.eu-west-1.vpce.amazonaws.com'
for one in good bad old; do
    openssl req -new -key "$one.key" -subj '/CN=endpoint' -out "$one.csr"
    printf 'subjectAltName=%s\n' "$names" >"$one.ext"
done
openssl x509 -req -in good.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile good.ext -out good.crt
openssl x509 -req -in bad.csr -signkey bad.key -days 30 -extfile bad.ext -out bad.crt
printf '[ca]\ndefault_ca=d\n[d]\ndatabase=index\nserial=serial\nnew_certs_dir=.\ndefault_md=sha256\npolicy=p\n[p]\ncommonName=supplied\n' >ca.cnf
: >index
openssl ca -batch -notext -config ca.cnf -rand_serial -cert ca.crt -keyfile ca.key -startdate 20200101000000Z \
    -enddate 20200201000000Z -extfile old.ext -in old.csr -out old.crt
for one in good bad old; do cat "$one.key" "$one.crt" >"$one.pem"; done
"#;

/// A fake AWS in a network namespace of its own.
pub(crate) struct Network {
    dir: TempDir,
    child: Child,
}

impl Network {
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().expect("directory");
        must(Command::new("sh").args(["-c", CERTIFICATES]).arg(dir.path()));
        for (name, value) in [("metadata", "instance"), ("skew", "0")] {
            fs::write(dir.path().join(name), value).expect("setting");
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slow/fake-aws.py");
        let network = "ip link set lo up; for one in 169.254.169.254 203.0.113.5 203.0.113.6 203.0.113.7 203.0.113.9 203.0.113.10 10.1.2.3; \
            do ip address add $one/32 dev lo; done; exec python3 \"$0\" \"$1\"";
        let mut child = Command::new("unshare")
            .args(["--net", "sh", "-ec", network])
            .arg(script)
            .arg(dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("fake AWS");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("stdout");
        BufReader::new(stdout).read_line(&mut line).expect("line");
        assert_eq!(line.trim(), "ready");
        Self { dir, child }
    }

    /// The certificate that its endpoints' are signed with.
    pub(crate) fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.crt")
    }

    /// A command in its namespace.
    pub(crate) fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.child.id()));
        command
    }

    /// What registered, a line each: activation and instance.
    pub(crate) fn registrations(&self) -> Vec<String> {
        let text = fs::read_to_string(self.dir.path().join("registrations")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

/// A baked tree and the AWS around it.
struct Aws {
    network: Network,
    target: TempDir,
}

impl Aws {
    fn start() -> Self {
        let network = Network::start();
        let (target, mirror) = (debootstrapped("bookworm"), mirror());
        furnish(target.path(), &deb(V1));
        must(
            apply(target.path(), &mirror, V1)
                .arg("--extra-ca")
                .arg(network.ca()),
        );
        let aws = Self { network, target };
        aws.reset();
        aws
    }

    /// An instance with a profile, endpoints on the internet, no registration, no proxy.
    fn reset(&self) {
        self.set("metadata", "instance");
        self.set("skew", "0");
        self.hosts(INTERNET, &[]);
        drop(fs::remove_dir_all(self.target.path().join("var/lib/amazon/ssm")));
        drop(fs::remove_dir_all(self.target.path().join(DROP_INS)));
        drop(fs::remove_file(
            self.target.path().join("etc/amazon/ssm/amazon-ssm-agent.json"),
        ));
    }

    fn set(&self, name: &str, value: &str) {
        fs::write(self.network.dir.path().join(name), value).expect("setting");
    }

    /// All services at `address`, but for those that are somewhere else; nowhere is `-`.
    fn hosts(&self, address: &str, others: &[(&str, &str)]) {
        let mut text = String::from("127.0.0.1 localhost\n");
        for service in SERVICES
            .iter()
            .chain(&["my-bucket.s3", "missing.s3", "elsewhere.s3"])
        {
            let found = others.iter().find(|(name, _)| name == service);
            let address = found.map_or(address, |(_, address)| address);
            if address != "-" {
                text.push_str(&format!("{address} {service}.eu-west-1.amazonaws.com\n"));
            }
        }
        text.push_str(&format!(
            "{SLOW} ssm.us-east-1.amazonaws.com\n{INTERNET} vpce-1.ssm.eu-west-1.vpce.amazonaws.com\n"
        ));
        fs::write(self.target.path().join("etc/hosts"), text).expect("hosts");
    }

    fn ssmbake(&self, arguments: &[&str]) -> Command {
        let mut command = self.network.enter();
        command
            .arg("chroot")
            .arg(self.target.path())
            .arg("/ssmbake")
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    /// Verdict and detail by id.
    fn audit(&self, arguments: &[&str]) -> (i32, Value) {
        let mut all = vec!["audit", "--network", "--connect-timeout", "2", "--output", "json"];
        all.extend(arguments);
        let (code, out, err) = outcome(&mut self.ssmbake(&all));
        (
            code,
            serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}")),
        )
    }

    #[track_caller]
    fn expect(&self, arguments: &[&str], id: &str, verdict: &str, says: &str) {
        let (_, report) = self.audit(arguments);
        let checks = report["checks"].as_array().expect("checks");
        let found = checks
            .iter()
            .find(|check| check["id"] == id)
            .unwrap_or_else(|| panic!("no {id}"));
        assert_eq!(found["verdict"], verdict, "{found}");
        assert!(
            found["detail"]
                .as_str()
                .is_some_and(|detail| detail.contains(says)),
            "{found}"
        );
        assert_eq!(found["fix"] == "", verdict == "pass", "{found}");
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

const DROP_INS: &str = "etc/systemd/system/amazon-ssm-agent.service.d";

#[test]
fn every_prerequisite_is_told_from_its_failures() {
    let aws = Aws::start();
    let root = aws.target.path().to_owned();
    aws.expect(&[], "SSMB020", "pass", "eu-west-1");
    aws.expect(&["--region", "us-east-1"], "SSMB020", "pass", "us-east-1");
    aws.expect(&[], "SSMB021", "pass", "instance-profile/p");
    // Nothing runs in a chroot.
    aws.expect(&[], "SSMB022", "fail", "does not run");
    for id in ["SSMB023", "SSMB024", "SSMB025", "SSMB026", "SSMB027", "SSMB028"] {
        aws.expect(&[], id, "pass", "over the internet");
    }
    aws.expect(&[], "SSMB029", "pass", "0 s");
    for (metadata, verdict, says) in [
        ("identity", "warn", "default host-management role"),
        ("bare", "fail", "no instance profile"),
        ("refused", "fail", "no token"),
    ] {
        aws.set("metadata", metadata);
        aws.expect(&["--region", "eu-west-1"], "SSMB021", verdict, says);
    }
    aws.reset();
    let state = root.join("var/lib/amazon/ssm");
    fs::create_dir_all(&state).expect("directory");
    fs::write(
        state.join("registration"),
        r#"{"ManagedInstanceID":"mi-0123","Region":"eu-west-1"}"#,
    )
    .expect("file");
    aws.set("metadata", "refused");
    aws.expect(&[], "SSMB021", "pass", "mi-0123");
    aws.expect(&[], "SSMB020", "pass", "eu-west-1");
    fs::write(state.join("registration"), "{").expect("file");
    aws.expect(&["--region", "eu-west-1"], "SSMB021", "fail", "names no machine");
    aws.reset();
    for (address, says) in [
        ("-", "has no address"),
        (NOBODY, "takes no connection"),
        (SILENT, "does not answer"),
        (STRANGER, "is not trusted"),
    ] {
        aws.hosts(INTERNET, &[("ssm", address), ("kms", address)]);
        aws.expect(&[], "SSMB023", "fail", says);
        aws.expect(&[], "SSMB027", "warn", says);
        aws.expect(&[], "SSMB024", "pass", "over the internet");
        let (code, _) = aws.audit(&[]);
        assert_eq!(code, 9);
    }
    aws.hosts(PRIVATE, &[]);
    aws.expect(&[], "SSMB023", "pass", "VPC endpoint");
    for (skew, verdict, says) in [
        ("400", "fail", "behind"),
        ("-400", "fail", "ahead"),
        ("-90", "warn", "ahead"),
    ] {
        aws.set("skew", skew);
        aws.expect(&[], "SSMB029", verdict, says);
    }
    aws.reset();
    for (bucket, verdict, says) in [
        ("my-bucket", "pass", "over the internet"),
        ("missing", "fail", "there is no bucket"),
        ("elsewhere", "fail", "another region"),
        ("unknown", "fail", "has no address"),
        ("my.dotted.bucket", "pass", "over the internet"),
        ("missing.dotted", "fail", "there is no bucket"),
    ] {
        aws.expect(&["--output-bucket", bucket], "SSMB030", verdict, says);
    }
    clocks_that_are_years_off_are_blamed(&aws);
}

/// By the machine's clock no certificate is valid: it is the clock, not the roots.
fn clocks_that_are_years_off_are_blamed(aws: &Aws) {
    aws.hosts(INTERNET, &[("kms", OLD)]);
    aws.expect(&[], "SSMB027", "warn", "by this machine's clock");
    aws.expect(&[], "SSMB029", "pass", "0 s");
    aws.hosts(OLD, &[]);
    aws.expect(&[], "SSMB023", "fail", "by this machine's clock");
    // The metadata service tells the time where nobody else does.
    aws.set("skew", "90000");
    aws.expect(&[], "SSMB029", "fail", "90000 s behind");
    aws.set("metadata", "refused");
    let region = ["--region", "eu-west-1"];
    aws.expect(&region, "SSMB029", "fail", "certificates of all endpoints");
    let (_, report) = aws.audit(&region);
    assert!(!report.to_string().contains("installs AWS's roots"), "{report}");
    aws.reset();
}

#[test]
fn endpoints_and_proxies_are_those_of_the_agent() {
    let aws = Aws::start();
    let root = aws.target.path().to_owned();
    aws.hosts(INTERNET, &[("ssm", "-")]);
    fs::create_dir_all(root.join("etc/amazon/ssm")).expect("directory");
    let config = r#"{"Ssm": {"Endpoint": "vpce-1.ssm.eu-west-1.vpce.amazonaws.com"}}"#;
    fs::write(root.join("etc/amazon/ssm/amazon-ssm-agent.json"), config).expect("file");
    aws.expect(&[], "SSMB023", "pass", "vpce-1");
    aws.reset();
    // No name has an address here: the proxy looks them up.
    aws.hosts("-", &[]);
    fs::create_dir_all(root.join(DROP_INS)).expect("directory");
    for (url, verdict, says) in [
        ("http://u:p@127.0.0.1:3128", "pass", "through the proxy"),
        ("http://127.0.0.1:3128", "fail", "the proxy does not lead"),
        ("http://127.0.0.1:3129", "fail", "the proxy does not lead"),
    ] {
        let text = format!(
            "[Service]\nEnvironment=\"https_proxy={url}\"\nEnvironment=\"no_proxy=169.254.169.254\"\n"
        );
        fs::write(root.join(DROP_INS).join("proxy.conf"), text).expect("drop-in");
        aws.expect(&[], "SSMB023", verdict, says);
        aws.expect(&[], "SSMB021", "pass", "instance-profile/p");
    }
}

#[test]
fn the_nearest_region_comes_first() {
    let aws = Aws::start();
    let mut command = aws.ssmbake(&["regions", "--nearest", "--connect-timeout", "2"]);
    let (code, out, err) = outcome(command.env("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt"));
    let order: Vec<&str> = out
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!((code, order), (0, vec!["eu-west-1", "us-east-1"]), "{out}{err}");
    assert!(
        err.contains("no answer from") && err.contains("ap-south-1"),
        "{err}"
    );
    let (code, _, err) = outcome(&mut aws.ssmbake(&[
        "regions",
        "--nearest",
        "--connect-timeout",
        "2",
        "--partition",
        "aws-cn",
    ]));
    assert!(code == 6 && err.contains("no region of aws-cn answers"), "{err}");
    // The commonest reason is told: here a CA that nobody trusts.
    let hosts = format!("{STRANGER} ssm.cn-north-1.amazonaws.com.cn ssm.cn-northwest-1.amazonaws.com.cn\n");
    fs::write(aws.target.path().join("etc/hosts"), hosts).expect("hosts");
    let (code, _, err) = outcome(&mut aws.ssmbake(&["regions", "--nearest", "--partition", "aws-cn"]));
    assert!(
        code == 6 && err.contains("certificate") && err.contains("trust the CA"),
        "{err}"
    );
    let (code, _, err) = outcome(&mut aws.ssmbake(&["regions", "--nearest", "--partition", "moon"]));
    assert!(code == 2 && err.contains("aws-us-gov"), "{err}");
}

#[test]
fn a_tree_has_no_network() {
    let target = ssmbake_tests::tree::MiniTree::debian();
    let (code, _, err) = outcome(&mut ssmbake_tests::ssmbake(&[
        "audit",
        "--network",
        "--root",
        target.arg(),
    ]));
    assert!(code == 2 && err.contains("a tree has no network"), "{err}");
}
