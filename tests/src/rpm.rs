//! Stand-ins for the agent's rpm, built by rpmbuild, and trees whose database rpm itself has made.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};

use ssmbake_installers::packages::rpm::database::{Backend, ndb, sqlite};

use crate::mirror::Mirror;
use crate::must;
use crate::package::{BINARIES, UNIT, binary};
use crate::tree::MiniTree;
use crate::world::{V1, V2, world};

/// An agent package to build.
#[derive(Debug, Clone)]
pub struct AgentRpm {
    /// `3.3.1957.0`.
    pub version: String,
    /// rpm's name.
    pub arch: String,
    /// Bytes of each of the six binaries.
    pub binary_size: usize,
    /// As rpmbuild takes it: `w6.gzdio`, `w2.xzdio`, `w3.zstdio`, `w9.bzdio`, `w2.lzdio`.
    pub payload: String,
    /// Added to the unit, so that versions differ in a configuration file.
    pub unit_comment: String,
    /// OpenPGP's number of the digest of files.
    pub digest: u32,
    /// Lines for the spec's preamble.
    pub preamble: String,
    /// Further files: path and content.
    pub extra: Vec<(String, String)>,
    /// Lines for `%install`, after the files were copied.
    pub install: String,
    /// Lines for `%files`.
    pub files: String,
    /// `Name`.
    pub name: String,
}

impl AgentRpm {
    /// A small one for fast tests.
    pub fn new(version: &str) -> Self {
        Self {
            version: version.to_owned(),
            arch: "x86_64".to_owned(),
            binary_size: 64 * 1024,
            payload: "w6.gzdio".to_owned(),
            unit_comment: format!("# {version}\n"),
            digest: 8,
            preamble: String::new(),
            extra: Vec::new(),
            install: String::new(),
            files: String::new(),
            name: "amazon-ssm-agent".to_owned(),
        }
    }

    /// Builds it; the path of the rpm, below `dir`.
    pub fn build(&self, dir: &Path) -> PathBuf {
        let top = tempfile::tempdir_in(dir).expect("directory").keep();
        let files = top.join("files");
        let put = |path: &str, bytes: &[u8]| {
            let place = files.join(path);
            fs::create_dir_all(place.parent().expect("parent")).expect("directory");
            fs::write(&place, bytes).expect("file");
        };
        for (number, name) in BINARIES.iter().enumerate() {
            put(
                &format!("usr/bin/{name}"),
                &binary(self.binary_size, number as u64),
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
            );
        }
        put(
            "etc/init/amazon-ssm-agent.conf",
            b"start on (runlevel [345] and started network)\nexec /usr/bin/amazon-ssm-agent\n",
        );
        put(
            "etc/systemd/system/amazon-ssm-agent.service",
            format!("{UNIT}{}", self.unit_comment).as_bytes(),
        );
        for (path, text) in &self.extra {
            put(path, text.as_bytes());
        }
        let spec = top.join("agent.spec");
        fs::write(&spec, self.spec(&files)).expect("spec");
        let mut command = Command::new("rpmbuild");
        command.args(["-bb", "--quiet", "--target", &format!("{}-linux", self.arch)]);
        for (name, value) in [
            ("_topdir", top.to_str().expect("UTF-8")),
            ("_binary_payload", &self.payload),
            ("_binary_filedigest_algorithm", &self.digest.to_string()),
            ("_build_id_links", "none"),
            ("__os_install_post", "%{nil}"),
            ("source_date_epoch_from_changelog", "0"),
            ("use_source_date_epoch_as_buildtime", "1"),
            ("clamp_mtime_to_source_date_epoch", "1"),
        ] {
            command.args(["--define", &format!("{name} {value}")]);
        }
        must(command.arg(&spec).env("SOURCE_DATE_EPOCH", "1700000000"));
        let name = format!("{}-{}-1.{}.rpm", self.name, self.version, self.arch);
        let built = top.join("RPMS").join(&self.arch).join(name);
        let place = dir.join(format!(
            "{}-{}-{}.rpm",
            top.file_name().expect("name").to_string_lossy(),
            self.version,
            self.arch
        ));
        fs::rename(built, &place).expect("rename");
        fs::remove_dir_all(&top).expect("clean up");
        place
    }

    fn spec(&self, files: &Path) -> String {
        let extra: String = self.extra.iter().map(|(path, _)| format!("/{path}\n")).collect();
        format!(
            "Name: {}\nVersion: {}\nRelease: 1\nSummary: stand-in for the agent\nLicense: Apache-2.0\nGroup: Amazon/Tools\n\
             URL: https://example.invalid\nAutoReqProv: no\nRequires: /bin/sh\n{}\n%description\nIts layout and its scriptlets' ways.\n\
             %install\nrm -rf %{{buildroot}}\nmkdir -p %{{buildroot}}/var/lib/amazon/ssm\ncp -a {}/. %{{buildroot}}/\n{}\n{FILES}{extra}{}{SCRIPTLETS}",
            self.name,
            self.version,
            self.preamble,
            files.display(),
            self.install,
            self.files,
        )
    }
}

const FILES: &str = "%files\n%defattr(-,root,root,-)\n%dir /etc/amazon/ssm\n/etc/amazon/ssm/*\n%attr(0755,root,root) /usr/bin/*\n\
    %config(noreplace) /etc/systemd/system/amazon-ssm-agent.service\n%config(noreplace) /etc/init/amazon-ssm-agent.conf\n\
    %dir /var/lib/amazon/ssm\n";
/// They look at the running kernel and at the running systemd, never at the tree.
const SCRIPTLETS: &str = "%pretrans\nif [[ $(uname -r) < 3.2 ]]; then exit 1; fi\n%posttrans\nif systemctl | grep -q '\\.mount'; then\n\
    systemctl enable amazon-ssm-agent\n  systemctl start amazon-ssm-agent\nfi\n%preun\nexit 0\n";

/// A built package of `version`, cached.
pub fn rpm(version: &str) -> PathBuf {
    static BUILT: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    let build = || AgentRpm::new(version).build(world().dir.path());
    let mut built = BUILT.lock().expect("lock");
    built.entry(version.to_owned()).or_insert_with(build).clone()
}

/// The bucket's folder for rpms on amd64.
pub const RPM_FOLDER: &str = "linux_amd64";

/// A mirror with both versions as rpms.
pub fn rpm_mirror() -> Mirror {
    let mirror = Mirror::http();
    for version in [V1, V2] {
        publish(&mirror, version, RPM_FOLDER, &rpm(version));
    }
    mirror
}

/// Signs and offers an rpm.
pub fn publish(mirror: &Mirror, version: &str, folder: &str, rpm: &Path) {
    mirror.publish(version, folder, rpm, &world().signer.sign(rpm));
}

/// rpm of this machine on the database of `root`.
pub fn host_rpm(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("rpm");
    command
        .arg("--root")
        .arg(root)
        .args(["--dbpath", "/var/lib/rpm"])
        .args(arguments);
    command
}

impl MiniTree {
    /// A tree of an rpm family with an SQLite database that rpm has made: it knows one package, which provides /bin/sh.
    pub fn rpm(id: &str, name: &str, version: &str, arch: &str) -> Self {
        Self::rpm_with(id, name, version, arch, Backend::Sqlite)
    }

    /// The same with another form of database.
    pub fn rpm_with(id: &str, name: &str, version: &str, arch: &str, backend: Backend) -> Self {
        let tree = Self::bare(id, name, version, arch);
        let made = database();
        match backend {
            Backend::Sqlite => {
                must(
                    Command::new("cp")
                        .arg("-a")
                        .arg(made.join("var/lib/rpm"))
                        .arg(tree.path().join("var/lib/")),
                );
            }
            Backend::Bdb => {
                tree.put("var/lib/rpm/Packages", "");
                fs::copy(berkeley(), tree.path().join("var/lib/rpm/Packages")).expect("copy");
            }
            Backend::Ndb => {
                // SUSE keeps it below /usr.
                tree.put("usr/lib/sysimage/rpm/Packages.db", "");
                let bytes = blobs().iter().fold(empty_ndb(), |bytes, (_, blob)| {
                    ndb::replace(&bytes, &[], Some(blob)).expect("database")
                });
                fs::write(tree.path().join("usr/lib/sysimage/rpm/Packages.db"), bytes).expect("database");
            }
        }
        tree
    }

    /// RHEL 9 on x86_64.
    pub fn rhel() -> Self {
        Self::rpm("rhel", "Red Hat Enterprise Linux", "9.4", "amd64")
    }
}

/// One page of free slots, as rpm begins a database.
fn empty_ndb() -> Vec<u8> {
    let mut bytes = b"RpmP".to_vec();
    bytes.extend([0_u32, 1, 1, 1, 0, 0, 0].into_iter().flat_map(u32::to_le_bytes));
    while bytes.len() < 4096 {
        bytes.extend(b"Slot");
        bytes.extend([0; 12]);
    }
    bytes
}

/// What rpm has stored in the tree that `database` made.
fn blobs() -> Vec<(u32, Vec<u8>)> {
    sqlite::all(fs::read(database().join("var/lib/rpm/rpmdb.sqlite")).expect("database")).expect("packages")
}

/// The same packages as Berkeley DB's own program writes them.
fn berkeley() -> PathBuf {
    static MADE: Mutex<()> = Mutex::new(());
    let _guard = MADE.lock().expect("lock");
    let place = world().dir.path().join("Packages");
    if !place.exists() {
        let mut records = vec![(0, 9_u32.to_le_bytes().to_vec())];
        records.extend(blobs());
        load_berkeley(&records, "db_pagesize=4096\n", &place);
    }
    place
}

/// Writes a Berkeley DB hash of packages by their numbers.
pub fn load_berkeley(records: &[(u32, Vec<u8>)], settings: &str, place: &Path) {
    let hex = |bytes: &[u8]| ssmbake_manifests::hex::encode(bytes);
    let is_big = settings.contains("4321");
    let mut dump = format!("VERSION=3\nformat=bytevalue\ntype=hash\n{settings}HEADER=END\n");
    for (number, blob) in records {
        let key = if is_big {
            number.to_be_bytes()
        } else {
            number.to_le_bytes()
        };
        dump.push_str(&format!(" {}\n {}\n", hex(&key), hex(blob)));
    }
    dump.push_str("DATA=END\n");
    let text = place.with_extension("dump");
    fs::write(&text, dump).expect("dump");
    must(Command::new("db5.3_load").arg("-f").arg(&text).arg(place));
}

/// A directory with a database at rpm's usual place.
fn database() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let dir = world().dir.path().join("database");
        fs::create_dir(&dir).expect("directory");
        must(host_rpm(&dir, &["--justdb", "--noscripts", "-U"]).arg(bash_rpm()));
        dir
    })
}

/// A package that provides /bin/sh, which the agent's needs.
pub fn bash_rpm() -> PathBuf {
    small("bash", "5.1.8", "Provides: /bin/sh")
}

/// A package that nobody needs.
pub fn other_rpm() -> PathBuf {
    small("other", "1", "")
}

fn small(name: &str, version: &str, preamble: &str) -> PathBuf {
    let dir = world().dir.path().join(name);
    let built = dir.join(format!("RPMS/noarch/{name}-{version}-9.noarch.rpm"));
    static BUILD: Mutex<()> = Mutex::new(());
    let _guard = BUILD.lock().expect("lock");
    if built.exists() {
        return built;
    }
    fs::create_dir_all(&dir).expect("directory");
    let spec = dir.join("small.spec");
    let text = format!(
        "Name: {name}\nVersion: {version}\nRelease: 9\nSummary: small\nLicense: none\nBuildArch: noarch\nAutoReqProv: no\n\
         {preamble}\n%description\nSmall.\n%install\nmkdir -p %{{buildroot}}/usr/bin\necho > %{{buildroot}}/usr/bin/{name}\n\
         %files\n/usr/bin/{name}\n"
    );
    fs::write(&spec, text).expect("spec");
    must(
        Command::new("rpmbuild")
            .args([
                "-bb",
                "--quiet",
                "--define",
                &format!("_topdir {}", dir.display()),
            ])
            .arg(&spec),
    );
    built
}

/// A program that holds rpm's lock, as rpm does while it works, for so many seconds.
pub fn hold_lock(file: &Path, seconds: u32) -> Child {
    let script = "import fcntl, sys, time\nlock = open(sys.argv[1], 'r+')\nfcntl.lockf(lock, fcntl.LOCK_EX)\nprint(1, flush=True)\ntime.sleep(int(sys.argv[2]))";
    let mut holder = Command::new("python3")
        .args(["-c", script])
        .arg(file)
        .arg(seconds.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3");
    let out = holder.stdout.as_mut().expect("pipe");
    out.read_exact(&mut [0; 1]).expect("a lock");
    holder
}
