//! Samples of all that `seal` removes, made from its own rules: no rule is without one.

use std::fs;
use std::path::{Path, PathBuf};

use ssmbake_manifests::{SealAction, catalog};

/// What every sample holds.
pub const SECRET: &str = "planted-secret";

/// One sample.
#[derive(Debug)]
pub struct Sample {
    /// Its class.
    pub class: String,
    /// The file, relative to the root.
    pub path: PathBuf,
    /// What becomes of it.
    pub action: SealAction,
    /// The line of it that stays when lines are dropped.
    pub kept: &'static str,
}

/// A sample for each path of each rule below `root`; what it holds is [`SECRET`] and a number.
pub fn plant(root: &Path) -> Vec<Sample> {
    let mut samples = Vec::new();
    for rule in catalog().seal() {
        for pattern in &rule.paths {
            let mut path = PathBuf::from(pattern.replace('*', "x").trim_start_matches('/'));
            if matches!(rule.action, SealAction::Empty | SealAction::RemoveFiles) {
                path.push("below/file");
            }
            let mut text = format!("{SECRET} <{}>\n", samples.len());
            let (kept, dropped) = match rule.class.as_str() {
                "agent-credentials" => (
                    "[own]\naws_access_key_id = AKIA",
                    format!("[default]\naws_session_token = {SECRET}"),
                ),
                "hostname" => ("localhost.localdomain", format!("HOSTNAME={SECRET}")),
                _ => (
                    "ssh-ed25519 AAAA me@home",
                    format!("ssh-rsa {SECRET} packer_01234567-89ab-cdef-0123-456789abcdef"),
                ),
            };
            if matches!(rule.action, SealAction::DropLines | SealAction::DropSections) {
                text = format!("{kept}\n{dropped}\n");
            }
            let place = root.join(&path);
            fs::create_dir_all(place.parent().expect("directory")).expect("directory");
            // Two rules may name one file.
            if !place.exists() {
                fs::write(&place, text).expect("sample");
            }
            samples.push(Sample {
                class: rule.class.clone(),
                path,
                action: rule.action,
                kept,
            });
        }
    }
    samples
}

/// What is known to be left, by hand: no rule is asked, so that a rule that is missing is missed.
pub const LEFT: [&str; 66] = [
    "var/lib/amazon/ssm/Vault/Store/RegistrationKey",
    "var/lib/amazon/ssm/Vault/Store/EC2RegistrationKey",
    "var/lib/amazon/ssm/Vault/Store/InstanceFingerprint",
    "var/lib/amazon/ssm/Vault/Manifest",
    "var/lib/amazon/ssm/Vault/EC2Manifest",
    "var/lib/amazon/ssm/registration",
    "var/lib/amazon/ssm/i-0123456789abcdef0/document/state/current/x",
    "var/lib/amazon/ssm/mi-0123456789abcdef0/channels/x",
    "var/lib/amazon/ssm/ipc/health/x",
    "var/lib/amazon/ssm/runtimeconfig/identity_config.json",
    "var/lib/amazon/ssm/credentials",
    "var/lib/amazon/ssm/daemons/x",
    "var/lib/amazon/ssm/localcommands/x",
    "var/lib/amazon/ssm/download/x",
    "var/lib/amazon/ssm/update/x",
    "var/lib/amazon/ssm/update.lock",
    "var/lib/amazon/ssm/manifests/x",
    "var/lib/amazon/ssm/inventory/x",
    "var/lib/amazon/ssm/session/x",
    "var/lib/amazon/ssm/locks/x",
    "var/log/amazon/ssm/amazon-ssm-agent.log",
    "var/log/amazon/ssm/audits/x",
    "var/lib/amazon/toe/TOE_2026/console.log",
    "root/.aws/credentials",
    "root/ssm_setup_cli_artifacts/x",
    "root/.gnupg/pubring.kbx",
    "root/.gnupg/private-keys-v1.d/x.key",
    "tmp/amazon-ssm-agent.deb",
    "home/jo/amazon-ssm-agent.rpm",
    "etc/machine-id",
    "var/lib/dbus/machine-id",
    "etc/ssh/ssh_host_rsa_key",
    "etc/ssh/ssh_host_rsa_key.pub",
    "etc/ssh/ssh_host_ed25519_key",
    "etc/ssh/ssh_host_ecdsa_key-cert.pub",
    "etc/ssh/ssh_host_key",
    "etc/ssh/ssh_host_key.pub",
    "var/log/wtmp",
    "var/log/btmp",
    "var/log/lastlog",
    "var/log/journal/0123456789abcdef0123456789abcdef/system.journal",
    "var/log/syslog",
    "var/log/audit/audit.log",
    "var/log/cloud-init-output.log",
    "var/lib/dhcp/dhclient.eth0.leases",
    "var/lib/dhclient/dhclient--eth0.lease",
    "var/lib/dhcpcd/eth0.lease",
    "var/lib/dhcpcd/duid",
    "var/lib/dhcpcd/secret",
    "etc/dhcpcd.duid",
    "var/lib/NetworkManager/internal-x-eth0.lease",
    "var/lib/NetworkManager/secret_key",
    "var/lib/wicked/lease-eth0-dhcp-ipv4.xml",
    "var/lib/cloud/instances/i-0123456789abcdef0/user-data.txt",
    "var/lib/cloud/data/instance-id",
    "var/lib/systemd/random-seed",
    "var/lib/systemd/credential.secret",
    "var/lib/urandom/random-seed",
    "root/.bash_history",
    "root/.python_history",
    "home/jo/.bash_history",
    "root/.ssh/known_hosts",
    "root/.viminfo",
    "var/cache/apt/archives/x.deb",
    "var/cache/libdnf5/x/packages/x.rpm",
    "tmp/x",
];
