//! What the tools that build, install and start machines read: `apply` with the user's options, filled into a template.

use super::quoted;

const OVER_SSH: &str = include_str!("templates/over-ssh.hcl");
const OVER_SSH_VARIABLES: &str = include_str!("templates/over-ssh-variables.hcl");
const FETCH: &str = include_str!("templates/fetch.sh");
const FETCH_OVER_SSH: &str = include_str!("templates/fetch-over-ssh.sh");
const PROGRAM: &str = include_str!("templates/program.hcl");
const UPLOAD: &str = include_str!("templates/over-ssh-upload.hcl");

const TASKS: &str = include_str!("../../../scripts/ansible/roles/ssmbake/tasks/main.yml");
const SITE: &str = include_str!("../../../scripts/ansible/site.yml");

/// Who reads the snippet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Snippet {
    /// Packer, builder amazon-ebs.
    Packer,
    /// Packer, builder amazon-ebssurrogate.
    PackerSurrogate,
    /// Packer, builder amazon-chroot.
    PackerChroot,
    /// Packer, builder qemu.
    PackerQemu,
    /// Packer, a machine reached by SSH.
    PackerSsh,
    /// Packer, a tree on the build machine.
    PackerTree,
    /// Vagrant.
    Vagrant,
    /// cloud-init, at first boot.
    CloudInit,
    /// EC2 Image Builder.
    ImageBuilder,
    /// Anaconda.
    Kickstart,
    /// The Debian installer.
    Preseed,
    /// Ubuntu's installer.
    Autoinstall,
    /// mkosi.
    Mkosi,
    /// debos.
    Debos,
    /// A container image.
    Dockerfile,
    /// Ansible.
    Ansible,
}

/// Where a machine gets the program from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binary {
    /// Its URL.
    pub url: String,
    /// Its SHA-256, hex.
    pub sha256: String,
}

/// What is filled in.
#[derive(Debug, Clone, Copy)]
pub struct Values<'a> {
    /// The options of `apply`, a word each, without control characters.
    pub flags: &'a [String],
    /// The region.
    pub region: Option<&'a str>,
    /// The program.
    pub binary: Option<&'a Binary>,
}

/// A value that this snippet cannot do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// The machine fetches the program.
    Binary,
    /// The builder works in one region.
    Region,
}

/// The snippet, ending with a newline.
pub fn render(snippet: Snippet, values: &Values<'_>) -> Result<String, Missing> {
    let (template, escape) = template(snippet);
    let mut text = include(template, "@OVER_SSH@", OVER_SSH);
    text = include(&text, "@OVER_SSH_VARIABLES@", OVER_SSH_VARIABLES);
    text = with_program(&text, values.binary);
    let root = match snippet {
        Snippet::PackerSurrogate => "/mnt/ssmbake",
        _ => "/",
    };
    text = text.replace("@ROOT@", root);
    text = include(&text, "@FETCH@", FETCH);
    text = include(&text, "@TASKS@", &with_binary(TASKS));
    text = include(&text, "@MERGE@", merge_play());
    if text.contains("@SHA256@") {
        text = fetched(&text, values.binary.ok_or(Missing::Binary)?);
    }
    if text.contains("@REGION@") {
        text = text.replace("@REGION@", values.region.ok_or(Missing::Region)?);
    }
    text = text.replace("@FLAGS_JSON@", &serde_json::json!(values.flags).to_string());
    let flags: Vec<String> = values.flags.iter().map(|flag| word(flag)).collect();
    let flags = escape(&flags.join(" "));
    // Without any option no blank is left.
    let place = if flags.is_empty() { " @FLAGS@" } else { "@FLAGS@" };
    Ok(text.replace(place, &flags))
}

/// Packer brings the program along, or lets the machine fetch it.
fn with_program(template: &str, binary: Option<&Binary>) -> String {
    let install = "install -m 755 /var/tmp/ssmbake /usr/local/sbin/ssmbake";
    let (variable, upload, over_ssh, here) = match binary {
        None => (
            PROGRAM,
            UPLOAD,
            format!("\"{install}\",\n"),
            "\"set -eu\",\n\"program='${var.ssmbake}'\",\n".to_owned(),
        ),
        Some(binary) => {
            let here = format!("{FETCH}program=$dir/ssmbake\n");
            let lines = |script: &str| hcl_lines(&fetched(script, binary));
            ("", "", lines(FETCH_OVER_SSH), lines(&here))
        }
    };
    let text = include(template, "@PROGRAM@", variable);
    let text = include(&text, "@UPLOAD@", upload);
    let text = include(&text, "@GET@", &over_ssh);
    include(&text, "@GET_HERE@", &here)
}

fn fetched(script: &str, binary: &Binary) -> String {
    script
        .replace("@URL@", &quoted(&binary.url))
        .replace("@YAML_URL@", &serde_json::json!(binary.url).to_string())
        .replace("@SHA256@", &binary.sha256)
}

/// A script as Packer's list of lines.
fn hcl_lines(script: &str) -> String {
    script
        .lines()
        .map(|line| format!("\"{}\",\n", hcl(line)))
        .collect()
}

/// The role's defaults are not there in a playbook of its own.
fn with_binary(tasks: &str) -> String {
    tasks.replace(
        "{{ ssmbake_binary }}",
        "{{ ssmbake_binary | default('ssmbake') }}",
    )
}

/// The play of the role's playbook that merges the reports.
fn merge_play() -> &'static str {
    SITE.find("- name: Merge").map_or("", |start| &SITE[start..])
}

fn template(snippet: Snippet) -> (&'static str, fn(&str) -> String) {
    match snippet {
        Snippet::Packer => (include_str!("templates/packer.pkr.hcl"), hcl),
        Snippet::PackerSurrogate => (include_str!("templates/packer-surrogate.pkr.hcl"), hcl),
        Snippet::PackerChroot => (include_str!("templates/packer-chroot.pkr.hcl"), hcl),
        Snippet::PackerQemu => (include_str!("templates/packer-qemu.pkr.hcl"), hcl),
        Snippet::PackerSsh => (include_str!("templates/packer-ssh.pkr.hcl"), hcl),
        Snippet::PackerTree => (include_str!("templates/packer-tree.pkr.hcl"), hcl),
        Snippet::Vagrant => (include_str!("templates/Vagrantfile"), str::to_owned),
        Snippet::CloudInit => (include_str!("templates/cloud-init.yaml"), str::to_owned),
        Snippet::ImageBuilder => (include_str!("templates/imagebuilder.yaml"), str::to_owned),
        Snippet::Kickstart => (include_str!("templates/kickstart.ks"), str::to_owned),
        Snippet::Preseed => (include_str!("templates/preseed.cfg"), str::to_owned),
        Snippet::Autoinstall => (include_str!("templates/autoinstall.yaml"), str::to_owned),
        Snippet::Mkosi => (include_str!("templates/mkosi.postinst"), str::to_owned),
        Snippet::Debos => (include_str!("templates/debos.yaml"), yaml_single),
        Snippet::Dockerfile => (include_str!("templates/Dockerfile"), str::to_owned),
        Snippet::Ansible => (include_str!("templates/ansible.yaml"), str::to_owned),
    }
}

/// `text` in place of the line that holds `mark`, indented as that line is.
fn include(template: &str, mark: &str, text: &str) -> String {
    let mut out = String::new();
    for line in template.lines() {
        match line.strip_suffix(mark) {
            Some(indent) => text.lines().for_each(|one| {
                let indent = if one.is_empty() { "" } else { indent };
                out.push_str(&format!("{indent}{one}\n"));
            }),
            None => out.push_str(&format!("{line}\n")),
        }
    }
    out
}

/// A word of sh, quoted where it needs to be.
fn word(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=@%+,".contains(&byte);
    match !text.is_empty() && text.bytes().all(is_plain) {
        true => text.to_owned(),
        false => quoted(text),
    }
}

/// Inside of a quoted string of Packer's, which interpolates twice.
fn hcl(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace("${", "$${")
        .replace("%{", "%%{")
        .replace("{{", "{{`{{`}}")
}

/// Inside of a single-quoted string of YAML's.
fn yaml_single(text: &str) -> String {
    text.replace('\'', "''")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn includes_keep_the_indent() {
        assert_eq!(include("a\n  @X@\nb\n", "@X@", "1\n\n2\n"), "a\n  1\n\n  2\nb\n");
    }

    #[test]
    fn values_survive_the_reader() {
        assert_eq!(word("--set"), "--set");
        assert_eq!(word("a b"), "'a b'");
        assert_eq!(word(""), "''");
        assert_eq!(hcl(r#"'"${x}" {{y}} \'"#), r#"'\"$${x}\" {{`{{`}}y}} \\'"#);
        assert_eq!(yaml_single("'a'"), "''a''");
    }

    #[test]
    fn nothing_is_left_open() {
        let binary = Binary {
            url: "https://example.invalid/ssmbake".to_owned(),
            sha256: "ab".repeat(32),
        };
        for snippet in [
            Snippet::Packer,
            Snippet::PackerSurrogate,
            Snippet::PackerChroot,
            Snippet::PackerQemu,
            Snippet::PackerSsh,
            Snippet::PackerTree,
            Snippet::Vagrant,
            Snippet::CloudInit,
            Snippet::ImageBuilder,
            Snippet::Kickstart,
            Snippet::Preseed,
            Snippet::Autoinstall,
            Snippet::Mkosi,
            Snippet::Debos,
            Snippet::Dockerfile,
            Snippet::Ansible,
        ] {
            let flags = ["--region".to_owned(), "eu-west-1".to_owned()];
            let values = Values {
                flags: &flags,
                region: Some("eu-west-1"),
                binary: Some(&binary),
            };
            let text = render(snippet, &values).expect("complete");
            let (words, list) = ("--region eu-west-1", r#"["--region","eu-west-1"]"#);
            assert!(text.contains(words) || text.contains(list), "{text}");
            for mark in [
                "@FLAGS@",
                "@URL@",
                "@SHA256@",
                "@FETCH@",
                "@REGION@",
                "@OVER_SSH",
                "@PROGRAM@",
                "@UPLOAD@",
                "@GET",
                "@ROOT@",
                "@TASKS@",
                "@MERGE@",
                "@FLAGS_JSON@",
            ] {
                assert!(!text.contains(mark), "{snippet:?}: {mark}");
            }
        }
    }
}
