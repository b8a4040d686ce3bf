//! Versions and download paths.

use ssmbake_manifests::{AgentVersion, Channel, PackageFormat, Region, catalog};

fn version(text: &str) -> AgentVersion {
    text.parse().unwrap()
}

fn region(id: &str) -> Region {
    catalog().regions().find(id).unwrap().into_region()
}

#[test]
fn a_version_has_one_spelling() {
    assert_eq!(version("3.3.1957.0"), AgentVersion([3, 3, 1957, 0]));
    assert_eq!(version("0.0.0.4294967295").to_string(), "0.0.0.4294967295");
    let bad = [
        "",
        "3",
        "3.3.1957",
        "3.3.1957.0.0",
        "3.3.1957.",
        ".3.3.1957",
        "3..1957.0",
        "+3.3.1957.0",
        "3.3.-1.0",
        "3.3.1957.0 ",
        " 3.3.1957.0",
        "3.3.1957.0\n",
        "v3.3.1957.0",
        "3.3.01957.0",
        "3.3.1957.00",
        "3.3.1957.0-1",
        "3.3.4294967296.0",
        "3.3.1957.x",
        "３.3.1957.0",
        "latest",
        "../../../etc",
    ];
    for text in bad {
        assert!(text.parse::<AgentVersion>().is_err(), "{text:?}");
    }
}

#[test]
fn an_invalid_version_is_quoted_and_cut() {
    let error = "\u{1b}[31m".repeat(1000).parse::<AgentVersion>().unwrap_err();
    assert_eq!(error.text.chars().count(), 64);
    assert!(!error.to_string().contains('\u{1b}'));
}

#[test]
fn versions_order_by_number() {
    let mut versions = ["3.10.0.0", "3.3.1957.0", "3.3.987.0", "2.99.9.9", "3.3.1957.1"].map(version);
    versions.sort();
    assert_eq!(
        versions.map(|v| v.to_string()),
        ["2.99.9.9", "3.3.987.0", "3.3.1957.0", "3.3.1957.1", "3.10.0.0"]
    );
}

#[test]
fn the_floor_has_every_fix_and_a_signature() {
    let agent = catalog().agent();
    assert_eq!(agent.floor, version("3.3.1957.0"));
    assert_eq!(agent.signature_since, version("3.1.1141.0"));
    assert!(agent.signature_since <= agent.floor);
    assert_eq!(agent.advisories_for(agent.floor).count(), 0);
    assert_eq!(agent.advisories_for(version("3.3.1802.0")).count(), 1);
    assert_eq!(
        agent.advisories_for(version("3.0.1479.0")).count(),
        agent.advisories.len()
    );
    assert!(agent.advisories.is_sorted_by_key(|advisory| advisory.fixed_in));
}

#[test]
fn download_urls() {
    let agent = catalog().agent();
    for (id, base) in [
        (
            "eu-west-1",
            "https://s3.eu-west-1.amazonaws.com/amazon-ssm-eu-west-1",
        ),
        (
            "us-east-1",
            "https://s3.us-east-1.amazonaws.com/amazon-ssm-us-east-1",
        ),
        (
            "cn-north-1",
            "https://s3.cn-north-1.amazonaws.com.cn/amazon-ssm-cn-north-1",
        ),
        (
            "us-iso-east-1",
            "https://s3.us-iso-east-1.c2s.ic.gov/amazon-ssm-us-iso-east-1",
        ),
        (
            "eu-west-9",
            "https://s3.eu-west-9.amazonaws.com/amazon-ssm-eu-west-9",
        ),
    ] {
        assert_eq!(agent.regional_base(&region(id)), base);
    }
    let stray = Region {
        partition: "aws-moon".to_owned(),
        ..region("eu-west-1")
    };
    assert_eq!(
        agent.regional_base(&stray),
        agent.regional_base(&region("eu-west-1"))
    );
    assert_eq!(
        agent.global_base(),
        "https://s3.amazonaws.com/ec2-downloads-windows/SSMAgent"
    );
    assert_eq!(agent.version_path(Channel::Latest), "latest/VERSION");
    assert_eq!(agent.version_path(Channel::Stable), "stable/VERSION");
    let deb = agent.package_path(&agent.floor, "debian_amd64", PackageFormat::Deb);
    assert_eq!(deb, "3.3.1957.0/debian_amd64/amazon-ssm-agent.deb");
    assert_eq!(
        agent.signature_path(&deb),
        "3.3.1957.0/debian_amd64/amazon-ssm-agent.deb.sig"
    );
    let rpm = agent.package_path(&agent.floor, "linux_arm64", PackageFormat::Rpm);
    assert_eq!(rpm, "3.3.1957.0/linux_arm64/amazon-ssm-agent.rpm");
}

#[test]
fn every_format_has_its_file_names() {
    let agent = catalog().agent();
    for format in PackageFormat::ALL {
        let name = agent.package_file_name(*format);
        assert!(name.ends_with(&format!(".{format}")), "{name}");
        let path = agent.setup_cli_path("folder", *format);
        assert!(path.starts_with("latest/folder/ssm-setup-cli"), "{path}");
    }
}

#[test]
fn every_folder_has_archives_for_updates() {
    let agent = catalog().agent();
    let deb = agent.archive_path(&agent.update.package, &agent.floor, "debian_amd64");
    assert_eq!(
        deb.as_deref(),
        Some("amazon-ssm-agent/3.3.1957.0/amazon-ssm-agent-ubuntu-amd64.tar.gz")
    );
    assert_eq!(
        agent.archive_path(&agent.update.updater, &agent.floor, "moon"),
        None
    );
    for name in [&agent.update.package, &agent.update.updater] {
        assert!(agent.update.program.contains_key(name));
    }
    for os in catalog().oses() {
        for folder in os.packages.values() {
            let path = agent.archive_path(&agent.update.updater, &agent.floor, folder);
            assert!(path.is_some(), "{folder}");
        }
    }
    assert_eq!(
        agent.manifest_uri("https://ssm.example"),
        "https://ssm.example/{PackageName}/{PackageVersion}/{FileName}"
    );
}

#[test]
fn limits_leave_room_for_a_real_package() {
    let limits = catalog().agent().limits;
    assert!(limits.package_bytes >= 60 << 20 && limits.unpacked_bytes >= 200 << 20 && limits.entries >= 100);
}

#[test]
fn the_agent_updates_itself_only_where_it_knows_the_name() {
    let agent = catalog().agent();
    for name in [
        "Ubuntu",
        "Debian GNU/Linux",
        "Raspbian GNU/Linux",
        "Amazon Linux",
        "Red Hat Enterprise Linux",
        "SLES",
    ] {
        assert!(agent.updates_itself_on(name), "{name}");
    }
    for name in [
        "openSUSE Leap",
        "Fedora Linux",
        "Arch Linux",
        "Alpine Linux",
        "Linux Mint",
        "",
    ] {
        assert!(!agent.updates_itself_on(name), "{name}");
    }
}
