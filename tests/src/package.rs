//! Packages with the agent's real layout, built as AWS does or by dpkg-deb, and throw-away keys to sign them.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::must;

/// A package to build.
#[derive(Debug, Clone)]
pub struct AgentPackage {
    /// `3.3.1957.0`.
    pub version: String,
    /// dpkg's name.
    pub arch: String,
    /// Bytes of each of the six binaries.
    pub binary_size: usize,
    /// `gzip`, `gzip-9`, `xz`, `zstd`.
    pub compression: String,
    /// Added to the unit, so that versions differ in a conffile.
    pub unit_comment: String,
    /// Further files: path and content.
    pub extra: Vec<(String, String)>,
    /// `Package`.
    pub name: String,
}

impl AgentPackage {
    /// A small one for fast tests.
    pub fn new(version: &str) -> Self {
        Self {
            version: version.to_owned(),
            arch: "amd64".to_owned(),
            binary_size: 64 * 1024,
            compression: "gzip".to_owned(),
            unit_comment: String::new(),
            extra: Vec::new(),
            name: "amazon-ssm-agent".to_owned(),
        }
    }

    /// Builds it in `dir`; the path of the deb.
    pub fn build(&self, dir: &Path) -> PathBuf {
        // Its own place: tests build the same version side by side.
        let place = tempfile::Builder::new().prefix("package-").tempdir_in(dir);
        let place = place.expect("directory").keep();
        let tree = place.join("tree");
        let put = |path: &str, bytes: &[u8], mode: u32| {
            let place = tree.join(path);
            fs::create_dir_all(place.parent().expect("parent")).expect("directory");
            fs::write(&place, bytes).expect("file");
            fs::set_permissions(&place, fs::Permissions::from_mode(mode)).expect("mode");
        };
        for (number, name) in BINARIES.iter().enumerate() {
            put(
                &format!("usr/bin/{name}"),
                &binary(self.binary_size, number as u64),
                0o755,
            );
        }
        for name in [
            "amazon-ssm-agent.json.template",
            "seelog.xml.template",
            "README.md",
            "RELEASENOTES.md",
            "NOTICE.md",
        ] {
            put(
                &format!("etc/amazon/ssm/{name}"),
                format!("{name} {}\n", self.version).as_bytes(),
                0o644,
            );
        }
        put(
            "etc/init/amazon-ssm-agent.conf",
            b"start on (runlevel [2345])\nexec /usr/bin/amazon-ssm-agent\n",
            0o644,
        );
        put(
            "lib/systemd/system/amazon-ssm-agent.service",
            format!("{UNIT}{}", self.unit_comment).as_bytes(),
            0o644,
        );
        put("usr/share/doc/amazon-ssm-agent/copyright", b"Apache-2.0\n", 0o644);
        for (path, text) in &self.extra {
            put(path, text.as_bytes(), 0o644);
        }
        put("DEBIAN/control", self.control().as_bytes(), 0o644);
        put("DEBIAN/conffiles", CONFFILES.as_bytes(), 0o644);
        for (name, script) in [("preinst", PREINST), ("postinst", POSTINST), ("prerm", PRERM)] {
            put(&format!("DEBIAN/{name}"), script.as_bytes(), 0o755);
        }
        let deb = place.join(format!("agent-{}-{}.deb", self.version, self.arch));
        match self.compression.strip_prefix("gzip") {
            Some(level) => pack_as_aws(&tree, &deb, if level.is_empty() { "-1" } else { level }),
            None => self.pack_as_dpkg(&tree, &deb),
        }
        fs::remove_dir_all(&tree).expect("clean up");
        deb
    }

    fn pack_as_dpkg(&self, tree: &Path, deb: &Path) {
        // --nocheck: like AWS's own package this one names conffiles that it does not ship.
        must(
            Command::new("dpkg-deb")
                .args([
                    "--root-owner-group",
                    "--nocheck",
                    &format!("-Z{}", self.compression),
                    "-z1",
                    "--build",
                ])
                .arg(tree)
                .arg(deb)
                .env("SOURCE_DATE_EPOCH", "1700000000"),
        );
    }

    fn control(&self) -> String {
        format!(
            "Package: {}\nVersion: {}-1\nSection: admin\nPriority: optional\nArchitecture: {}\nDepends: libc6\nInstalled-Size: {}\n\
             Maintainer: Test <test@example.invalid>\nHomepage: https://example.invalid\nDescription: stand-in for the agent\n with its layout\n",
            self.name,
            self.version,
            self.arch,
            self.binary_size * 6 / 1024
        )
    }
}

/// AWS packs with tar and ar: no `./` before the names, no entry for the root, no md5sums, ar's own way of names.
fn pack_as_aws(tree: &Path, deb: &Path, level: &str) {
    let script = "set -e; work=$(mktemp -d); cd \"$1\"; pack() { out=$1; shift; tar --owner=0 --group=0 --sort=name \
        --mtime=@1700000000 -I \"gzip -n $level\" -cf \"$work/$out\" \"$@\"; }; level=$3\n\
        cd DEBIAN; pack control.tar.gz *; cd ..; mv DEBIAN \"$work\"; pack data.tar.gz *; cd \"$work\"; echo 2.0 > debian-binary\n\
        rm -f \"$2\"; ar rc \"$2\" debian-binary control.tar.gz data.tar.gz; rm -r \"$work\"";
    must(
        Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(tree)
            .arg(deb)
            .arg(level),
    );
}

pub(crate) const BINARIES: [&str; 6] = [
    "amazon-ssm-agent",
    "ssm-agent-worker",
    "ssm-cli",
    "ssm-document-worker",
    "ssm-session-worker",
    "ssm-session-logger",
];
const CONFFILES: &str = "/etc/init/amazon-ssm-agent.conf\n/lib/systemd/system/amazon-ssm-agent.service\n\
    /etc/amazon/ssm/amazon-ssm-agent.json\n/etc/amazon/ssm/seelog.xml\n";
pub(crate) const UNIT: &str = "[Unit]\nDescription=stand-in agent\nAfter=network-online.target\n\n[Service]\nType=simple\n\
    ExecStart=/usr/bin/amazon-ssm-agent\nKillMode=process\nRestart=always\nRestartPreventExitStatus=194\nRestartSec=90\n\n\
    [Install]\nWantedBy=multi-user.target\n";
// AWS's scripts go by the name of PID 1, whatever root it has, and take systemctl for granted where that is `systemd`.
const PREINST: &str = "#!/bin/sh\nset -e\nif [ -e /snap/amazon-ssm-agent ]; then echo 'snap is installed' >&2; exit 1; fi\n\
    comm=$(cat /proc/1/comm 2>/dev/null || true)\nif [ \"$comm\" = systemd ]; then systemctl daemon-reload; fi\n";
const POSTINST: &str = "#!/bin/sh\nset -e\ncomm=$(cat /proc/1/comm 2>/dev/null || true)\nif [ \"$comm\" = systemd ]; then\n\
    systemctl enable amazon-ssm-agent\n  systemctl start amazon-ssm-agent\n  systemctl daemon-reload\nfi\n";
const PRERM: &str = "#!/bin/sh\nset -e\nexit 0\n";

// It leaves its vault wherever it starts.
const AGENT: &str = include_str!("agent.sh");

/// A shell script that registers, or records its start and environment, then sleeps; the rest is padding that gzip packs to about a
/// third, like the agent's own programs.
pub(crate) fn binary(size: usize, seed: u64) -> Vec<u8> {
    let mut bytes = AGENT.as_bytes().to_vec();
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // One of a thousand instructions, with an operand every other time.
        bytes.extend((state & 1023).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        if state & (1 << 40) != 0 {
            bytes.extend(&state.to_le_bytes()[1..3]);
        }
    }
    bytes.truncate(size.max(128));
    bytes
}

/// A throw-away OpenPGP key in its own GnuPG home.
#[derive(Debug)]
pub struct Signer {
    home: tempfile::TempDir,
}

impl Drop for Signer {
    /// Its agent would make its sockets anew while the directory is removed.
    fn drop(&mut self) {
        let mut end = Command::new("gpgconf");
        end.arg("--homedir")
            .arg(self.home.path())
            .args(["--kill", "gpg-agent"]);
        drop(end.output());
    }
}

impl Signer {
    /// A new RSA key; `clock` fakes the time of its making, `expires` as gpg takes it (`0` never, `1d`).
    pub fn new(algorithm: &str, clock: Option<&str>, expires: &str) -> Self {
        Self::make(algorithm, "sign", clock, expires)
    }

    fn make(algorithm: &str, usage: &str, clock: Option<&str>, expires: &str) -> Self {
        let signer = Self {
            home: tempfile::tempdir().expect("directory"),
        };
        fs::set_permissions(signer.home.path(), fs::Permissions::from_mode(0o700)).expect("mode");
        must(signer.gpg(clock).args([
            "--passphrase",
            "",
            "--quick-gen-key",
            "test <t@example.invalid>",
            algorithm,
            usage,
            expires,
        ]));
        signer
    }

    /// A key that only certifies: its subkeys sign.
    pub fn certifier(clock: Option<&str>, expires: &str) -> Self {
        Self::make("ed25519", "cert", clock, expires)
    }

    /// GnuPG's home.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Of the primary key, upper-case hex.
    pub fn fingerprint(&self) -> String {
        let listing = must(self.gpg(None).args(["--with-colons", "--list-keys"])).stdout;
        let listing = String::from_utf8_lossy(&listing).into_owned();
        let fingerprint = listing
            .lines()
            .find(|line| line.starts_with("fpr:"))
            .expect("key");
        fingerprint.split(':').nth(9).expect("fingerprint").to_owned()
    }

    /// At `clock` all subkeys are told to expire `after` that.
    pub fn expire_subkeys(&self, clock: &str, after: &str) {
        let fingerprint = self.fingerprint();
        must(self.gpg(Some(clock)).args([
            "--passphrase",
            "",
            "--quick-set-expire",
            &fingerprint,
            after,
            "*",
        ]));
    }

    /// A signing subkey.
    pub fn add_subkey(&self, clock: Option<&str>, expires: &str) {
        let fingerprint = self.fingerprint();
        must(self.gpg(clock).args([
            "--passphrase",
            "",
            "--quick-add-key",
            &fingerprint,
            "rsa2048",
            "sign",
            expires,
        ]));
    }

    /// Revokes the key with the certificate that GnuPG made for that.
    pub fn revoke(&self) {
        let dir = self.home.path().join("openpgp-revocs.d");
        let entry = fs::read_dir(&dir)
            .expect("revocations")
            .flatten()
            .next()
            .expect("one");
        let text = fs::read_to_string(entry.path()).expect("revocation");
        fs::write(entry.path(), text.replace(":-----BEGIN", "-----BEGIN")).expect("revocation");
        must(self.gpg(None).arg("--import").arg(entry.path()));
    }

    /// Revokes the key at `clock` for one of GnuPG's reasons: 0 none, 1 compromised, 2 superseded, 3 retired.
    pub fn revoke_for(&self, reason: u8, clock: &str) {
        let (fingerprint, file) = (self.fingerprint(), self.home.path().join("revocation"));
        let mut make = self.gpg(Some(clock));
        make.args([
            "--no-batch",
            "--no-tty",
            "--command-fd",
            "0",
            "--passphrase",
            "",
            "--output",
        ]);
        make.arg(&file).args(["--gen-revoke", &fingerprint]);
        let mut making = make
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("gpg");
        let answers = format!("y\n{reason}\n\ny\n");
        let mut stdin = making.stdin.take().expect("stdin");
        stdin.write_all(answers.as_bytes()).expect("answers");
        drop(stdin);
        assert!(making.wait().expect("gpg").success());
        must(self.gpg(Some(clock)).arg("--import").arg(&file));
    }

    /// GnuPG with this key; `clock` fakes the time.
    pub fn gpg(&self, clock: Option<&str>) -> Command {
        let mut command = Command::new("gpg");
        command.arg("--homedir").arg(self.home.path()).args([
            "--batch",
            "--yes",
            "--pinentry-mode",
            "loopback",
        ]);
        if let Some(clock) = clock {
            command.args(["--faked-system-time", &format!("{clock}!")]);
        }
        command
    }

    /// The certificate, armoured.
    pub fn certificate(&self) -> Vec<u8> {
        must(self.gpg(None).args(["--armor", "--export"])).stdout
    }

    /// A detached binary signature.
    pub fn sign(&self, file: &Path) -> Vec<u8> {
        self.sign_with(file, &["--digest-algo", "SHA256"], None)
    }

    /// The same with further options and another clock.
    pub fn sign_with(&self, file: &Path, options: &[&str], clock: Option<&str>) -> Vec<u8> {
        must(
            self.gpg(clock)
                .args(options)
                .args(["--passphrase", "", "--output", "-", "--detach-sign"])
                .arg(file),
        )
        .stdout
    }
}
