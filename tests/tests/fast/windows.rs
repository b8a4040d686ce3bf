//! Trees of Windows: what the hives and a few files tell of the release and its architecture.

use std::fs;

use ssmbake_tests::windows::WindowsTree;
use ssmbake_tests::{must, outcome, ssmbake};

use crate::detect::{detected, holding, refused};

#[test]
fn servers_of_windows_are_known_by_their_hives() {
    let plain = WindowsTree::server_2019();
    let cases = [
        (plain, "windows-server-2019", None, "amd64"),
        (
            WindowsTree {
                product: "Windows Server 2016 Standard",
                build: "14393",
                installation: "Server Core",
                ..plain
            },
            "windows-server-2016",
            Some("server-core"),
            "amd64",
        ),
        (
            WindowsTree {
                product: "Microsoft Windows Server 2003 R2",
                build: "3790",
                installation: "",
                machine: 0x14c,
                ..plain
            },
            "windows-server-2003",
            Some("r2"),
            "i386",
        ),
        (
            WindowsTree {
                product: "Windows Server (R) 2008 Standard",
                build: "6002",
                ..plain
            },
            "windows-server-2008",
            None,
            "amd64",
        ),
        (
            WindowsTree {
                product: "Windows Server Datacenter",
                build: "25398",
                ..plain
            },
            "windows-server-2022",
            None,
            "amd64",
        ),
    ];
    for (tree, id, variant, arch) in cases {
        let dir = tree.build();
        let output = must(ssmbake(&["detect", "--output", "json", "--root"]).arg(dir.path()));
        let facts: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let os = &facts["os"]["value"];
        assert_eq!(
            (
                os["id"].as_str(),
                os["variant"].as_str(),
                facts["arch"]["value"].as_str()
            ),
            (Some(id), variant, Some(arch)),
            "{tree:?}"
        );
        assert_eq!(os["version"], format!("{}.1158", tree.build));
        assert_eq!(facts["windows"]["powershell"], "5.1.17763.1");
        let (code, _, err) = outcome(ssmbake(&["plan", "--region", "eu-west-1", "--root"]).arg(dir.path()));
        assert_eq!(code, 3, "{err}");
    }
}

#[test]
fn the_software_hive_alone_names_a_server() {
    let server = WindowsTree {
        lab: "17763.1.amd64fre.rs5_release.180914-1434",
        ..WindowsTree::server_2019()
    };
    let oldest = WindowsTree {
        product: "Microsoft Windows Server 2003",
        build: "3790",
        installation: "",
        lab: "",
        ..server
    };
    let client = WindowsTree {
        product: "Microsoft Windows XP",
        ..oldest
    };
    for (tree, found) in [
        (server, Some(("windows-server-2019", "amd64"))),
        (oldest, Some(("windows-server-2003", "unknown"))),
        (client, None),
    ] {
        let dir = tree.build();
        fs::remove_file(dir.path().join("Windows/System32/config/SYSTEM")).expect("hive");
        fs::remove_file(dir.path().join("Windows/System32/cmd.exe")).expect("program");
        let Some((id, arch)) = found else {
            assert!(refused(dir.path()).contains(tree.product));
            continue;
        };
        let output = must(ssmbake(&["detect", "--output", "json", "--root"]).arg(dir.path()));
        let facts: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(
            (&facts["os"]["value"]["id"], &facts["arch"]["value"]),
            (&id.into(), &arch.into())
        );
    }
}

#[test]
fn most_of_what_tells_the_architecture_of_windows_decides() {
    for (machine, processor, lab, arch) in [
        (0x14c, "AMD64", "17763.1.amd64fre.x", "amd64"),
        (0x14c, "AMD64", "", "i386"),
        (0xaa64, "ARM64", "17763.1.amd64fre.x", "arm64"),
        (0, "x86", "", "i386"),
    ] {
        let tree = WindowsTree {
            machine,
            processor,
            lab,
            ..WindowsTree::server_2019()
        };
        let dir = tree.build();
        let output = must(ssmbake(&["detect", "--output", "json", "--root"]).arg(dir.path()));
        let facts: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(facts["arch"]["value"], arch, "{tree:?}");
    }
}

#[test]
fn a_windows_tree_is_no_linux_whatever_the_user_says() {
    let dir = WindowsTree {
        build: "31000",
        ..WindowsTree::server_2019()
    }
    .build();
    let (code, _, err) = outcome(ssmbake(&["detect", "--as", "ubuntu-22.04", "--root"]).arg(dir.path()));
    assert!(
        code == 2 && err.contains("windows-server-2025") && !err.contains("debian-12"),
        "{err}"
    );
    let os = detected(dir.path(), &["--as", "windows-server-2025"]);
    assert_eq!(os["id"], "windows-server-2025");
    let linux = holding(&[("etc/debian_version", "12.1\n")]);
    let (code, _, err) =
        outcome(ssmbake(&["detect", "--as", "windows-server-2025", "--root"]).arg(linux.path()));
    assert!(code == 2 && err.contains("debian-12"), "{err}");
}

#[test]
fn clients_itanium_and_damaged_hives_are_refused() {
    let plain = WindowsTree::server_2019();
    let client = WindowsTree {
        product: "Windows 10 Pro",
        installation: "Client",
        product_type: "WinNT",
        ..plain
    };
    assert!(refused(client.build().path()).contains("Windows 10 Pro"));
    let itanium = WindowsTree {
        product: "Windows Server 2008 R2",
        build: "7601",
        machine: 0x200,
        ..plain
    };
    let dir = itanium.build();
    let (code, _, err) = outcome(ssmbake(&["plan", "--region", "eu-west-1", "--root"]).arg(dir.path()));
    assert!(code == 3 && err.contains("ia64"), "{err}");
    let unknown = WindowsTree {
        build: "31000",
        ..plain
    };
    assert!(refused(unknown.build().path()).contains("31000"));
    let dir = plain.build();
    let hive = dir.path().join("Windows/System32/config/SOFTWARE");
    let whole = fs::read(&hive).expect("hive");
    let run = |bytes: &[u8]| {
        fs::write(&hive, bytes).expect("hive");
        outcome(ssmbake(&["detect", "--root"]).arg(dir.path()))
    };
    for bytes in [&b"regf"[..], b"", &[0; 8192], &whole[..0x1100]] {
        let (code, _, err) = run(bytes);
        assert_eq!(code, 7, "{err}");
        assert!(err.contains("SOFTWARE") && err.contains("shut it down"), "{err}");
    }
    // No single damaged byte of the base block or the first keys makes it crash or hang.
    for at in (0x20..0x2c).chain((0x1000..0x1400).step_by(19)) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0xff;
        let (code, _, err) = run(&bytes);
        assert!([0, 3, 7].contains(&code), "byte {at}: {code} {err}");
    }
    fs::remove_file(&hive).expect("hive");
    assert_eq!(outcome(ssmbake(&["detect", "--root"]).arg(dir.path())).0, 7);
}

#[test]
fn older_powershell_launchers_and_roots_are_told() {
    let roots = ["8DA7F965EC5EFC37910F1C6E59FDC1CC6A6EDE16"];
    let tree = WindowsTree {
        powershell: ("2.0", ""),
        roots: &roots,
        // More than one list of keys holds.
        classes: 520,
        ..WindowsTree::server_2019()
    };
    let dir = tree.build();
    let launcher = dir.path().join("Program Files/Amazon/EC2Launch");
    fs::create_dir_all(&launcher).expect("directory");
    fs::write(launcher.join("ec2launch.EXE"), "").expect("file");
    let output = must(ssmbake(&["detect", "--output", "json", "--root"]).arg(dir.path()));
    let facts: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(facts["windows"]["powershell"], "2.0");
    assert_eq!(facts["windows"]["launch_agent"], "EC2Launch v2");
    assert_eq!(facts["trust"]["value"]["anchors"]["amazon-root-ca-1"], "trusted");
    assert_eq!(facts["trust"]["value"]["anchors"]["amazon-root-ca-2"], "missing");
}
