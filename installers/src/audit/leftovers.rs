//! What the build of an image left in it: proxies, activations, addresses, traces.

use super::files::{first, has_password, text};
use super::{Found, fail, pass, warn};
use crate::error::IoError;
use crate::probe::Facts;
use crate::root::{Last, Root, RootPath};

/// Where a build's proxy stays.
const PROXIES: [&str; 8] = [
    "/etc/environment",
    "/etc/yum.conf",
    "/etc/dnf/dnf.conf",
    "/etc/sysconfig/proxy",
    "/etc/wgetrc",
    "/root/.curlrc",
    "/root/.wgetrc",
    "/root/.gitconfig",
];
const PROXY_DIRS: [&str; 3] = ["/etc/apt/apt.conf.d", "/etc/profile.d", "/etc/zypp"];
/// Where an activation stays that was not meant to.
const ACTIVATIONS: [&str; 14] = [
    "/etc/default/grub",
    "/boot/grub/grub.cfg",
    "/boot/grub2/grub.cfg",
    "/boot/cmdline.txt",
    "/boot/firmware/cmdline.txt",
    "/etc/kernel/cmdline",
    "/etc/environment",
    "/etc/systemd/system.conf",
    "/root/anaconda-ks.cfg",
    "/root/original-ks.cfg",
    "/var/lib/cloud/seed/nocloud/user-data",
    "/var/lib/cloud/seed/nocloud-net/user-data",
    "/boot/firmware/user-data",
    "/ssm-activation",
];
const ACTIVATION_DIRS: [&str; 5] = [
    "/boot/loader/entries",
    "/etc/default/grub.d",
    "/etc/systemd/system.conf.d",
    "/usr/lib/systemd/system.conf.d",
    "/etc/systemd/system/ssmbake-first-boot.service.d",
];
/// How an activation is written.
const MARKS: [&str; 4] = [
    "ssm-activation:",
    "ssm-activation=",
    "ActivationCode",
    "SSM_ACTIVATION_CODE=",
];
const IMAGE_BUILDER: &str = "/tmp/imagebuilder_service/ssm_installed";
const SUDOERS: &str = "/etc/sudoers.d/ssm-agent-users";

pub(super) fn findings(root: &Root, facts: &Facts) -> Vec<(&'static str, Found)> {
    vec![
        ("SSMB073", build_proxies(root)),
        ("SSMB074", activations(root, facts)),
        ("SSMB076", fixed_addresses(root)),
        ("SSMB078", sessions(root, facts)),
        ("SSMB079", image_builder(root)),
    ]
}

/// `files`, and what is in `dirs`.
fn listed(root: &Root, files: &[&'static str], dirs: &[&'static str]) -> Result<Vec<RootPath>, IoError> {
    let mut paths: Vec<RootPath> = files.iter().map(|path| RootPath::fixed(path)).collect();
    for dir in dirs.iter().map(|path| RootPath::fixed(path)) {
        let entries = match root.read_dir(&dir) {
            Err(error) if error.is_loop() => None,
            other => other?,
        };
        let entries = entries.unwrap_or_default();
        paths.extend(entries.iter().filter_map(|entry| dir.join(&entry.name).ok()));
    }
    Ok(paths)
}

fn build_proxies(root: &Root) -> Found {
    let found = first(&listed(root, &PROXIES, &PROXY_DIRS)?, |path| {
        let text = text(root, path)?.unwrap_or_default();
        let is_active =
            |line: &&str| !line.trim_start().starts_with(['#', ';']) && !line.trim_start().starts_with("//");
        let hit = |line: &str| line.to_ascii_lowercase().contains("proxy") && has_password(line);
        let fault = || {
            fail(
                format!("`{path}` has one"),
                "remove it before the image is published",
            )
        };
        Ok(text.lines().filter(is_active).any(hit).then(fault))
    })?;
    Ok(found.unwrap_or_else(|| pass("none")))
}

fn activations(root: &Root, facts: &Facts) -> Found {
    if facts.environment.is_machine() {
        return Ok(pass("this is no image"));
    }
    let found = first(&listed(root, &ACTIVATIONS, &ACTIVATION_DIRS)?, |path| {
        let text = text(root, path)?.unwrap_or_default();
        let has_one = MARKS.iter().any(|mark| text.contains(mark));
        Ok(has_one.then(|| {
            fail(
                format!("`{path}` has one"),
                "remove it, and give it to each machine; `aws ssm delete-activation` takes back this one",
            )
        }))
    })?;
    Ok(found.unwrap_or_else(|| pass("none")))
}

fn fixed_addresses(root: &Root) -> Found {
    let text = text(root, &RootPath::fixed("/etc/hosts"))?.unwrap_or_default();
    let names = text
        .lines()
        .filter_map(|line| line.split('#').next())
        .flat_map(|line| line.split_whitespace().skip(1));
    let mut fixed = names.filter(|name| {
        [".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu"]
            .iter()
            .any(|end| name.ends_with(end))
    });
    Ok(match fixed.next() {
        None => pass("none in /etc/hosts"),
        Some(name) => warn(
            format!("/etc/hosts has {name}"),
            "remove it; for a VPC endpoint use its own name with --endpoint, or private DNS",
        ),
    })
}

fn sessions(root: &Root, facts: &Facts) -> Found {
    let exists = root.meta(&RootPath::fixed(SUDOERS), Last::Keep)?.is_some();
    Ok(match exists && !facts.environment.is_machine() {
        true => warn(
            format!("`{SUDOERS}` exists"),
            "remove it and the user ssm-user before the image is published",
        ),
        false => pass("no trace of one"),
    })
}

fn image_builder(root: &Root) -> Found {
    Ok(match root.meta(&RootPath::fixed(IMAGE_BUILDER), Last::Keep)? {
        None => pass("it did not install it"),
        Some(_) => warn(
            format!("`{IMAGE_BUILDER}` exists"),
            "install the agent in a component of the recipe: Image Builder leaves that one",
        ),
    })
}
