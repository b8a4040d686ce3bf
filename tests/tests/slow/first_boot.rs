//! Registration at first boot: every source, every failure, in a chroot whose /proc and /sys are made for it. As root.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use ssmbake_tests::mirror::Mirror;
use ssmbake_tests::tree::debootstrapped;
use ssmbake_tests::world::{V1, apply, mirror, refused};
use ssmbake_tests::{must, outcome, ssmbake};
use tempfile::TempDir;

use crate::snippets::binary;

const ID: &str = "11111111-2222-3333-4444-555555555555";
const CODE: &str = "Fjz3/sZfSvv78EXAMPLE+1=";
const REFUSED: &str = "refused-refused-refused";

fn compact(code: &str) -> String {
    format!("ssm-activation:{ID}:{code}:eu-west-1")
}

/// As `aws ssm create-activation` prints it.
fn json() -> String {
    format!("{{\n    \"ActivationId\": \"{ID}\",\n    \"ActivationCode\": \"{CODE}\"\n}}\n")
}

/// A baked tree whose machine has these sources.
struct Image {
    tree: TempDir,
    /// What the tree's /proc and /sys hold.
    fakes: TempDir,
    /// Or this machine's own.
    is_real: bool,
}

impl Image {
    fn new(mirror: &Mirror, sources: &str) -> Self {
        let tree = debootstrapped("bookworm");
        must(apply(tree.path(), mirror, V1).args([
            "--target",
            "hybrid",
            "--region",
            "eu-west-1",
            "--activation-source",
            sources,
        ]));
        let image = Self {
            tree,
            fakes: tempfile::tempdir().expect("directory"),
            is_real: false,
        };
        image.machine("0123456789abcdef0123456789abcdef");
        image.fake("proc/cmdline", "root=/dev/vda quiet\n");
        fs::create_dir_all(image.fakes.path().join("sys")).expect("directory");
        image
    }

    fn put(&self, path: &str, text: &str) {
        write(&self.tree.path().join(path), text.as_bytes());
    }

    fn fake(&self, path: &str, text: &str) {
        write(&self.fakes.path().join(path), text.as_bytes());
    }

    /// Gives the machine its id.
    fn machine(&self, id: &str) {
        self.put("etc/machine-id", &format!("{id}\n"));
    }

    /// One boot: exit code, what it said, and the status file.
    fn boot(&self, environment: &[(&str, &str)]) -> (i32, String, Value) {
        let script = "mount --bind \"$1/proc\" \"$0/proc\"; mount --bind \"$1/sys\" \"$0/sys\"; mount --bind /dev \"$0/dev\"; \
             mount -t tmpfs none \"$0/run\"; [ -z \"$1\" ] || [ ! -d \"$1/run\" ] || mount --bind \"$1/run\" \"$0/run\"; \
             exec chroot \"$0\" /bin/sh /usr/lib/ssmbake/first-boot";
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-ec", script])
            .arg(self.tree.path())
            .arg(if self.is_real {
                Path::new("")
            } else {
                self.fakes.path()
            })
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("SSMBAKE_FIRST_BOOT_LIMIT", "3")
            .envs(environment.iter().copied());
        let (code, out, err) = outcome(&mut command);
        let status = self.read("var/lib/ssmbake/first-boot.json");
        let status =
            serde_json::from_str(&status).unwrap_or_else(|error| panic!("{error}: {status}{out}{err}"));
        (code, format!("{out}{err}"), status)
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.tree.path().join(path)).unwrap_or_default()
    }

    /// What the agent was asked to do, a line each.
    fn registrations(&self) -> String {
        self.read("var/lib/amazon-test/registrations")
    }

    /// Boots, and expects a registration by `source` that leaves the code nowhere in the tree.
    #[track_caller]
    fn expect_registered(&self, environment: &[(&str, &str)], source: &str) -> Value {
        let (code, said, status) = self.boot(environment);
        assert_eq!(
            (code, &status["state"]),
            (0, &"registered".into()),
            "{said}{status}"
        );
        assert_eq!(status["source"], source, "{said}");
        assert_eq!(status["managed_instance"], "mi-0123456789abcdef0");
        assert_eq!(self.registrations(), format!("register {ID} eu-west-1\n"));
        assert!(!said.contains(CODE), "{said}");
        let (code, found, _) = outcome(
            Command::new("grep")
                .args(["-rlF", CODE])
                .arg(self.tree.path())
                .args(["--exclude-dir=proc", "--exclude-dir=sys", "--exclude-dir=dev"]),
        );
        assert_eq!((code, found.as_str()), (1, ""), "{source}");
        status
    }
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().expect("directory")).expect("directory");
    fs::write(path, bytes).expect("file");
}

#[test]
fn every_source_registers_once_and_is_destroyed() {
    let mirror = mirror();
    let file = Image::new(&mirror, "file:/var/lib/activation.json");
    file.put("var/lib/activation.json", &json());
    let status = file.expect_registered(&[], "file:/var/lib/activation.json");
    assert_eq!(status["why"], "");
    // The next boot has nothing to do.
    file.expect_registered(&[], "");

    let environment = Image::new(&mirror, "auto");
    let variables = [("SSM_ACTIVATION_ID", ID), ("SSM_ACTIVATION_CODE", CODE)];
    environment.expect_registered(&variables, "env");

    let line = Image::new(&mirror, "auto");
    line.fake("proc/cmdline", &format!("quiet {} ro\n", compact(CODE)));
    let status = line.expect_registered(&[], "cmdline");
    assert!(
        status["why"]
            .as_str()
            .is_some_and(|why| why.contains("machine's definition"))
    );

    let firmware = Image::new(&mirror, "auto");
    firmware.fake(
        "sys/firmware/qemu_fw_cfg/by_name/opt/com.amazonaws.ssm/activation/raw",
        &json(),
    );
    firmware.expect_registered(&[], "fw_cfg");

    let smbios = Image::new(&mirror, "auto");
    smbios.fake(
        "sys/firmware/dmi/entries/11-0/raw",
        &format!("\u{b}\u{5}\0\u{1}\u{1}first\0{}\0\0", compact(CODE)),
    );
    smbios.expect_registered(&[], "smbios");

    let cloud = Image::new(&mirror, "auto");
    for path in [
        "var/lib/cloud/instance/user-data.txt",
        "var/lib/cloud/instances/i/obj.pkl",
    ] {
        cloud.put(path, &format!("#cloud-config\n# {}\n", compact(CODE)));
    }
    // As Python's pickle has it.
    let pickle = |code: &str| format!("\u{80}\0\u{4}{}\n\0.", compact(code));
    cloud.put("var/lib/cloud/instances/j/obj.pkl", &pickle(CODE));
    cloud.put("var/lib/cloud/instance/boot-finished", "yes\n");
    cloud.expect_registered(&[], "cloud_init");
    assert_eq!(cloud.read("var/lib/cloud/instance/boot-finished"), "yes\n");
    // Later stages of cloud-init need what stands around it.
    let blank = "x".repeat(CODE.len());
    let user_data = format!("#cloud-config\n# {}\n", compact(&blank));
    assert_eq!(cloud.read("var/lib/cloud/instance/user-data.txt"), user_data);
    assert_eq!(cloud.read("var/lib/cloud/instances/i/obj.pkl"), user_data);
    assert_eq!(cloud.read("var/lib/cloud/instances/j/obj.pkl"), pickle(&blank));
}

/// What `program` makes of a text.
fn filtered(program: &[&str], text: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().expect("directory");
    let file = dir.path().join("text");
    write(&file, text.as_bytes());
    must(Command::new(program[0]).args(&program[1..]).arg(file)).stdout
}

#[test]
fn packed_user_data_registers_and_no_form_of_it_is_left() {
    let mirror = mirror();
    let base64 = String::from_utf8(filtered(
        &["base64"],
        &format!("#!/bin/sh\n# {}\n", compact(CODE)),
    ))
    .expect("text");
    let mime = format!(
        "Content-Type: multipart/mixed; boundary=\"=b=\"\r\nMIME-Version: 1.0\r\n\r\n--=b=\r\nContent-Type: text/x-shellscript\r\n\
         Content-Transfer-Encoding: base64\r\nContent-Disposition: attachment\r\n\r\n{}\r\n--=b=--\r\n",
        base64.replace('\n', "\r\n")
    );
    let plain = format!("#cloud-config\n# {}\n", compact(CODE));
    for raw in [
        filtered(&["gzip", "-c"], &plain),
        mime.clone().into_bytes(),
        filtered(&["gzip", "-c"], &mime),
    ] {
        let cloud = Image::new(&mirror, "auto");
        let instance = cloud.tree.path().join("var/lib/cloud/instance");
        let deploy = || {
            write(&instance.join("user-data.txt"), &raw);
            write(&instance.join("user-data.txt.i"), mime.as_bytes());
            write(&instance.join("scripts/part-001"), mime.as_bytes());
            write(&instance.join("obj.pkl"), &raw);
            write(&instance.join("boot-finished"), b"yes\n");
        };
        deploy();
        let kept = |status: &Value| {
            let why = status["why"].as_str().expect("text");
            assert!(why.contains("user data"), "{status}");
            let mut find = Command::new("find");
            let left = must(find.arg(&instance).args(["-type", "f", "-printf", "%P\n"])).stdout;
            assert_eq!(String::from_utf8_lossy(&left), "boot-finished\n");
        };
        kept(&cloud.expect_registered(&[], "cloud_init"));
        // cloud-init gets it again, and is not done with it.
        deploy();
        cloud.fake("run/cloud-init/status.json", "{}");
        cloud.expect_registered(&[], "cloud_init");
        let cache = instance.join("obj.pkl");
        assert!(fs::read(&cache).expect("cache") == raw);
        assert!(!instance.join("user-data.txt").exists());
        cloud.fake("run/cloud-init/result.json", "{}");
        let deadline = Instant::now() + Duration::from_secs(30);
        while cache.exists() {
            assert!(Instant::now() < deadline, "the cache is left");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

#[test]
fn variables_that_come_back_at_each_boot_are_told() {
    let image = Image::new(&mirror(), "env");
    let setting =
        format!("[Manager]\nDefaultEnvironment=SSM_ACTIVATION_ID={ID} SSM_ACTIVATION_CODE=elsewhere\n");
    image.put("etc/systemd/system.conf.d/activation.conf", &setting);
    let variables = [("SSM_ACTIVATION_ID", ID), ("SSM_ACTIVATION_CODE", CODE)];
    let status = image.expect_registered(&variables, "env");
    let file = "/etc/systemd/system.conf.d/activation.conf";
    assert!(status["why"].to_string().contains(file), "{status}");
}

/// A disk with the label SSM in a loop device.
struct Volume {
    _image: TempDir,
    device: String,
}

impl Volume {
    fn new() -> Self {
        let image = tempfile::tempdir().expect("directory");
        let (seed, disk) = (image.path().join("seed"), image.path().join("disk"));
        write(&seed.join("ssm-activation"), json().as_bytes());
        let mut format = Command::new("mke2fs");
        format.args(["-q", "-t", "ext4", "-L", "SSM", "-d"]);
        must(format.arg(&seed).arg(&disk).arg("4M"));
        let mut attach = Command::new("losetup");
        let device = must(attach.args(["--find", "--show"]).arg(&disk)).stdout;
        Self {
            _image: image,
            device: String::from_utf8_lossy(&device).trim().to_owned(),
        }
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        must(Command::new("losetup").args(["--detach", &self.device]));
    }
}

#[test]
fn a_seed_volume_registers_and_is_wiped() {
    let volume = Volume::new();
    let mut image = Image::new(&mirror(), "volume");
    // Mounting needs the kernel's own.
    image.is_real = true;
    let status = image.expect_registered(&[], "volume:SSM");
    assert_eq!(status["why"], "");
    let raw = fs::read(&volume.device).expect("device");
    let code = CODE.as_bytes();
    assert!(!raw.windows(code.len()).any(|window| window == code));
}

#[test]
fn copies_of_a_registered_machine_register_anew() {
    let image = Image::new(&mirror(), "file:/var/lib/activation.json");
    image.put("var/lib/activation.json", &json());
    image.expect_registered(&[], "file:/var/lib/activation.json");
    image.machine("ffffffffffffffffffffffffffffffff");
    // Without an activation it is nobody, which is better than somebody else.
    let (code, said, status) = image.boot(&[]);
    assert_eq!((code, &status["state"]), (0, &"waiting".into()), "{said}");
    assert_eq!(status["managed_instance"], "");
    assert!(!image.tree.path().join("var/lib/amazon/ssm/registration").exists());
    image.put("var/lib/activation.json", &json());
    let (_, said, status) = image.boot(&[]);
    assert_eq!(status["state"], "registered", "{said}");
    assert_eq!(
        image.registrations(),
        format!("register {ID} eu-west-1\nclear\nregister {ID} eu-west-1\n")
    );
    assert_eq!(
        image.read("var/lib/ssmbake/machine-id"),
        "ffffffffffffffffffffffffffffffff /etc/machine-id\n"
    );
}

#[test]
fn an_id_that_turns_up_later_makes_no_copy() {
    let image = Image::new(&mirror(), "file:/var/lib/activation.json");
    let registered = |image: &Image| {
        image.put("var/lib/activation.json", &json());
        image.expect_registered(&[], "file:/var/lib/activation.json");
    };
    // As EL 6, where D-Bus makes its id while the job runs.
    for file in ["etc/machine-id", "var/lib/dbus/machine-id"] {
        fs::remove_file(image.tree.path().join(file)).expect("remove");
    }
    image.fake(
        "sys/class/dmi/id/product_uuid",
        "11112222-0000-0000-0000-000000000000\n",
    );
    registered(&image);
    image.put("var/lib/dbus/machine-id", "0123456789abcdef0123456789abcdef\n");
    image.expect_registered(&[], "");
    // Of a stamp that does not say where it came from, too.
    image.put(
        "var/lib/ssmbake/machine-id",
        "11112222-0000-0000-0000-000000000000\n",
    );
    image.expect_registered(&[], "");
    // And a copy is a copy.
    for stamp in ["1 /sys/class/dmi/id/product_uuid\n", "1\n"] {
        image.put("var/lib/ssmbake/machine-id", stamp);
        let (_, said, status) = image.boot(&[]);
        assert_eq!(status["state"], "waiting", "{said}");
        fs::remove_file(image.tree.path().join("var/lib/amazon-test/registrations")).expect("remove");
        registered(&image);
    }
}

#[test]
fn without_a_stamp_nothing_is_registered() {
    let image = Image::new(&mirror(), "file:/var/lib/activation.json");
    image.put("var/lib/activation.json", &json());
    let stamp = image.tree.path().join("var/lib/ssmbake/machine-id");
    fs::create_dir_all(stamp.join("x")).expect("directory");
    let (code, said, status) = image.boot(&[]);
    assert_eq!((code, &status["state"]), (1, &"failed".into()), "{said}");
    assert!(
        status["why"]
            .as_str()
            .is_some_and(|why| why.contains("machine-id")),
        "{status}"
    );
    assert_eq!(image.registrations(), "");
    assert!(image.read("var/lib/activation.json").contains(CODE));
    // As where a script of `export` put it: nobody has made the directory.
    fs::remove_dir_all(image.tree.path().join("var/lib/ssmbake")).expect("remove");
    image.expect_registered(&[], "file:/var/lib/activation.json");
    assert!(stamp.is_file());
}

#[test]
fn a_registration_in_the_image_is_refused() {
    let (tree, mirror) = (debootstrapped("bookworm"), mirror());
    let registration = tree.path().join("var/lib/amazon/ssm/registration");
    write(&registration, b"{\"ManagedInstanceID\":\"mi-0\"}");
    let bake = || {
        let mut bake = apply(tree.path(), &mirror, V1);
        bake.args(["--target", "hybrid", "--activation-source", "env"]);
        bake
    };
    let said = refused(&mut bake(), tree.path(), 8);
    assert!(said.contains("seal"), "{said}");
    fs::remove_file(registration).expect("remove");
    must(&mut bake());
}

#[test]
fn what_cannot_be_registered_is_tried_again_and_said_without_the_code() {
    let image = Image::new(&mirror(), "file:/var/lib/activation.json");
    image.put("var/lib/activation.json", &compact(REFUSED));
    let (code, said, status) = image.boot(&[]);
    assert_eq!((code, &status["state"]), (1, &"failed".into()), "{said}");
    assert!(
        status["attempts"].as_i64().is_some_and(|count| count >= 2),
        "{status}"
    );
    assert_eq!(status["why"], "the agent refused the activation");
    assert!(!said.contains(REFUSED), "{said}");
    // It is there for the next boot.
    assert!(image.read("var/lib/activation.json").contains(REFUSED));

    // A clock that is behind the image is waited for.
    image.put("var/lib/activation.json", &json());
    let script = image.tree.path().join("usr/lib/ssmbake/first-boot");
    must(Command::new("touch").args(["-d", "tomorrow"]).arg(script));
    let (code, said, status) = image.boot(&[]);
    assert_eq!(code, 1, "{said}");
    assert_eq!(status["why"], "the clock is behind the image");
    assert_eq!(image.registrations(), "");

    // Nothing in this tree fetches URLs.
    let image = Image::new(&mirror(), "https://localhost:1/activation");
    let (code, _, status) = image.boot(&[]);
    assert_eq!(code, 1);
    assert!(
        status["why"].as_str().is_some_and(|why| why.contains("curl")),
        "{status}"
    );
}

#[test]
fn an_activation_that_is_refused_for_good_does_not_stand_in_the_way() {
    let expired = compact("expired-expired-expired");
    let image = Image::new(&mirror(), "cmdline,file:/var/lib/activation.json");
    image.fake("proc/cmdline", &format!("quiet {expired}\n"));
    // Alone it is tried once: it gets no better.
    let (code, said, status) = image.boot(&[("SSMBAKE_FIRST_BOOT_LIMIT", "60")]);
    assert_eq!((code, &status["state"]), (1, &"failed".into()), "{said}");
    assert_eq!(status["attempts"], 1, "{status}");
    assert!(
        status["why"].as_str().is_some_and(|why| why.contains("expired")),
        "{status}"
    );
    image.put("var/lib/activation.json", &json());
    image.expect_registered(&[], "file:/var/lib/activation.json");

    // One that may be taken later lets the next be tried, too.
    let image = Image::new(&mirror(), "cmdline,file:/var/lib/activation.json");
    image.fake("proc/cmdline", &format!("quiet {}\n", compact(REFUSED)));
    image.put("var/lib/activation.json", &json());
    image.expect_registered(&[], "file:/var/lib/activation.json");
}

/// Puts a fetcher into the tree that says what it was asked for, fails and complains.
fn fetcher(image: &Image, name: &str, script: &str) {
    let path = image.tree.path().join("usr/bin").join(name);
    write(&path, format!("#!/bin/sh\n{script}\n").as_bytes());
    must(Command::new("chmod").arg("755").arg(path));
}

#[test]
fn a_signed_url_is_fetched_and_not_repeated() {
    const URL: &str = "https://b.s3.eu-west-1.amazonaws.com/a?X-Amz-Expires=9&X-Amz-Signature=s3cr3t[*]";
    let image = Image::new(&mirror(), URL);
    fetcher(
        &image,
        "curl",
        "for url; do :; done; echo \"curl: (22) $url returned 403\" >&2; exit 22",
    );
    let (code, said, status) = image.boot(&[]);
    assert_eq!(code, 1, "{said}");
    let why = status["why"].as_str().expect("text");
    assert!(
        why.contains("https://b.s3.eu-west-1.amazonaws.com/a returned 403"),
        "{status}"
    );
    assert!(!format!("{said}{status}").contains("s3cr3t"), "{said}{status}");
    fetcher(
        &image,
        "curl",
        &format!(
            "for url; do :; done; [ \"$url\" = '{URL}' ] && echo '{}'",
            compact(CODE)
        ),
    );
    let (_, said, status) = image.boot(&[]);
    assert_eq!(
        (&status["state"], &status["source"]),
        (
            &"registered".into(),
            &"https://b.s3.eu-west-1.amazonaws.com/a".into()
        ),
        "{said}"
    );

    // busybox' wget follows a server to http, and checks no certificate.
    let image = Image::new(&mirror(), "https://localhost/a");
    fetcher(
        &image,
        "wget",
        &format!(
            "[ \"$1\" != --help ] || {{ echo 'Usage: wget [-cqS] [-O FILE]' >&2; exit 1; }}; echo '{}'",
            compact(CODE)
        ),
    );
    let (code, said, status) = image.boot(&[]);
    assert_eq!((code, image.registrations().as_str()), (1, ""), "{said}");
    assert!(
        status["why"]
            .as_str()
            .is_some_and(|why| why.contains("nor a wget")),
        "{status}"
    );
    fetcher(
        &image,
        "wget",
        &format!(
            "[ \"$1\" != --help ] || {{ echo --max-redirect; exit; }}; case \"$*\" in *--max-redirect=0*) echo '{}' ;; esac",
            compact(CODE)
        ),
    );
    let (_, said, status) = image.boot(&[]);
    assert_eq!(status["state"], "registered", "{said}");
}

#[test]
fn ssmbake_in_the_image_fetches_an_activation() {
    let server = Mirror::https();
    server.put("activation", compact(CODE).into_bytes());
    let url = format!("{}/activation", server.url);
    let image = Image::new(&mirror(), &url);
    fs::copy(binary(), image.tree.path().join("usr/bin/ssmbake")).expect("copy");
    image.put("etc/hosts", "127.0.0.1 localhost\n");
    // A server whom the image does not trust is not asked for a secret, or believed.
    let (code, said, status) = image.boot(&[]);
    assert_eq!((code, &status["state"]), (1, &"failed".into()), "{said}");
    assert_eq!(server.requests(), 0);
    let ca = image.fakes.path().join("ca.pem");
    fs::write(&ca, server.ca_pem.as_ref().expect("CA")).expect("file");
    must(
        apply(image.tree.path(), &mirror(), V1)
            .arg("--extra-ca")
            .arg(&ca)
            .args([
                "--target",
                "hybrid",
                "--region",
                "eu-west-1",
                "--activation-source",
                &url,
            ]),
    );
    image.expect_registered(&[], &url);
    let (code, _, err) = outcome(&mut ssmbake(&["activation", "http://localhost/"]));
    assert!(code == 2 && err.contains("https"), "{err}");
    let (code, ..) = outcome(&mut ssmbake(&["activation", "https://localhost:1/"]));
    assert_eq!(code, 6);
}

/// Verdict and detail of a check on the tree from outside.
fn audit(root: &Path, id: &str) -> (String, String) {
    let (_, out, err) = outcome(ssmbake(&["audit", "--output", "json", "--root"]).arg(root));
    let report: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"));
    let checks = report["checks"].as_array().expect("checks").iter();
    let check = checks.clone().find(|check| check["id"] == id).expect("the check");
    let text = |name: &str| check[name].as_str().expect("text").to_owned();
    (text("verdict"), text("detail"))
}

#[test]
fn audit_says_whether_the_first_boot_can_register() {
    let image = Image::new(&mirror(), "env,file:/var/lib/activation.json");
    let root = image.tree.path();
    let (verdict, detail) = audit(root, "SSMB014");
    assert_eq!(
        (verdict.as_str(), detail.as_str()),
        ("pass", "from env, file:/var/lib/activation.json")
    );
    image.put("var/lib/activation.json", &json());
    assert_eq!(audit(root, "SSMB014").0, "fail");
    image.expect_registered(&[], "file:/var/lib/activation.json");
    let (verdict, detail) = audit(root, "SSMB010");
    assert_eq!(verdict, "fail", "{detail}");
    fs::remove_file(root.join("etc/systemd/system/multi-user.target.wants/ssmbake-first-boot.service"))
        .expect("remove");
    assert_eq!(audit(root, "SSMB014").0, "fail");
}

#[test]
fn an_activation_in_the_image_is_refused() {
    let (tree, mirror) = (debootstrapped("bookworm"), mirror());
    write(&tree.path().join("var/lib/activation.json"), json().as_bytes());
    let mut bake = apply(tree.path(), &mirror, V1);
    bake.args([
        "--target",
        "hybrid",
        "--activation-source",
        "file:/var/lib/activation.json",
    ]);
    let said = refused(&mut bake, tree.path(), 8);
    assert!(said.contains("/var/lib/activation.json"), "{said}");
    let mut bake = apply(tree.path(), &mirror, V1);
    bake.args(["--activation-source", "env"]);
    let said = refused(&mut bake, tree.path(), 2);
    assert!(said.contains("--target hybrid"), "{said}");
    let mut bake = apply(tree.path(), &mirror, V1);
    bake.args(["--target", "hybrid", "--activation-source", &compact(CODE)]);
    let said = refused(&mut bake, tree.path(), 2);
    assert!(!said.contains(CODE), "{said}");
}
