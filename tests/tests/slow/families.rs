//! What must hold for every system of the catalog: the same loops over all of them.

use std::cell::Cell;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use ssmbake_installers::apply::change;
use ssmbake_installers::plan::Plan;
use ssmbake_installers::root::Root;
use ssmbake_manifests::{Arch, Family, Os, PackageFormat, ServiceManager, catalog};
use ssmbake_tests::digest::{Times, diff, tree};
use ssmbake_tests::family::tree_of;
use ssmbake_tests::mirror::Mirror;
use ssmbake_tests::package::AgentPackage;
use ssmbake_tests::rpm::AgentRpm;
use ssmbake_tests::tree::MiniTree;
use ssmbake_tests::world::{V1, world};
use ssmbake_tests::{must, outcome, ssmbake};

use crate::steps::{host, verified};

/// Every Linux system with every architecture it has an agent for.
fn each(test: impl Fn(&Os, Arch, &str) + Sync) {
    let linux = |os: &&Os| os.family != Family::Windows;
    let all: Vec<(&Os, Arch)> = catalog()
        .oses()
        .iter()
        .filter(linux)
        .flat_map(|os| os.packages.keys().map(move |arch| (os, *arch)))
        .collect();
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((os, arch)) = all.get(next.fetch_add(1, std::sync::atomic::Ordering::SeqCst)) {
                    test(os, *arch, &format!("{} {arch}", os.id));
                }
            });
        }
    });
}

/// The newest agent that runs there; the last for EL 6 has no signature.
fn version_for(os: &Os) -> String {
    os.agent_max.map_or_else(|| V1.to_owned(), |max| max.to_string())
}

/// One mirror with the package of every folder, and the digest of the one that has no signature.
fn everything() -> &'static (Mirror, std::collections::BTreeMap<String, String>) {
    static MIRROR: std::sync::OnceLock<(Mirror, std::collections::BTreeMap<String, String>)> =
        std::sync::OnceLock::new();
    MIRROR.get_or_init(|| {
        let mirror = Mirror::http();
        let mut digests = std::collections::BTreeMap::new();
        for os in catalog().oses().iter().filter(|os| os.family != Family::Windows) {
            for (arch, folder) in &os.packages {
                let version = version_for(os);
                let key = format!("{version}/{folder}");
                if digests.contains_key(&key) {
                    continue;
                }
                let package = match os.package {
                    PackageFormat::Rpm => AgentRpm {
                        arch: arch.rpm_names()[0].to_owned(),
                        ..AgentRpm::new(&version)
                    }
                    .build(world().dir.path()),
                    _ => AgentPackage {
                        arch: arch.debian_name().to_owned(),
                        ..AgentPackage::new(&version)
                    }
                    .build(world().dir.path()),
                };
                mirror.publish(&version, folder, &package, &world().signer.sign(&package));
                digests.insert(key, ssmbake_tests::sha256(&fs::read(&package).expect("package")));
            }
        }
        (mirror, digests)
    })
}

fn wanted(os: &Os, arch: Arch) -> Vec<String> {
    let (mirror, digests) = everything();
    let version = version_for(os);
    let mut arguments: Vec<String> = ["--mirror", &mirror.url, "--version", &version]
        .map(str::to_owned)
        .to_vec();
    let folder = os.package_folder(arch).expect("folder");
    if os.agent_max.is_some() {
        arguments.extend([
            "--sha256".to_owned(),
            digests[&format!("{version}/{folder}")].clone(),
        ]);
    }
    arguments
}

fn bake(target: &Path, os: &Os, arch: Arch) -> Command {
    let mut command = ssmbake(&["apply", "--detailed-exitcode"]);
    command
        .args(wanted(os, arch))
        .arg("--root")
        .arg(target)
        .arg("--keyring")
        .arg(&world().keyring);
    command
}

#[test]
fn every_system_is_baked_once_found_ready_and_taken_back() {
    each(|os, arch, name| {
        let target = tree_of(os, arch);
        let before = tree(target.path(), Times::Ignored);
        let (code, out, err) = outcome(&mut bake(target.path(), os, arch));
        assert_eq!(code, 20, "{name}: {out}{err}");
        let (code, out, err) = outcome(&mut ssmbake(&["audit", "--root", target.arg()]));
        assert_eq!(code, 0, "{name}: {out}{err}");
        let baked = tree(target.path(), Times::Count);
        let (code, out, err) = outcome(&mut bake(target.path(), os, arch));
        assert_eq!(code, 0, "{name}: {out}{err}");
        assert_eq!(
            diff(&baked, &tree(target.path(), Times::Count)),
            Vec::<String>::new(),
            "{name}"
        );
        must(&mut ssmbake(&["revert", "--root", target.arg()]));
        assert_eq!(
            diff(&before, &tree(target.path(), Times::Ignored)),
            Vec::<String>::new(),
            "{name}"
        );
    });
}

/// What can be wrong with an image, how to make it so, and the check that must see it.
struct Defect {
    check: &'static str,
    fits: fn(&Os) -> bool,
    make: fn(&MiniTree),
}

const ALWAYS: fn(&Os) -> bool = |_| true;
const CONFIG: &str = "etc/amazon/ssm/amazon-ssm-agent.json";

const DEFECTS: [Defect; 14] = [
    Defect {
        check: "SSMB003",
        fits: |os| os.package == PackageFormat::Deb,
        make: |tree| tree.put("var/lib/snapd/seed/snaps/amazon-ssm-agent_1.snap", "x"),
    },
    Defect {
        check: "SSMB004",
        fits: ALWAYS,
        make: |tree| remove(tree, "usr/bin/ssm-cli"),
    },
    Defect {
        check: "SSMB006",
        fits: |os| os.service == ServiceManager::Systemd,
        make: |tree| {
            remove(
                tree,
                "etc/systemd/system/multi-user.target.wants/amazon-ssm-agent.service",
            )
        },
    },
    Defect {
        check: "SSMB006",
        fits: |os| os.service == ServiceManager::Upstart,
        make: |tree| tree.put("etc/init/amazon-ssm-agent.override", "manual\n"),
    },
    Defect {
        check: "SSMB006",
        fits: |os| os.service == ServiceManager::Upstart,
        make: |tree| {
            tree.put(
                "etc/init/amazon-ssm-agent.conf",
                "exec /usr/bin/amazon-ssm-agent\n",
            )
        },
    },
    Defect {
        check: "SSMB007",
        fits: ALWAYS,
        make: |tree| tree.put(CONFIG, "{ \"Agent\": { \"Region\": \"x\", } }"),
    },
    Defect {
        check: "SSMB007",
        fits: ALWAYS,
        make: |tree| tree.put(CONFIG, "\u{feff}{}"),
    },
    Defect {
        check: "SSMB008",
        fits: ALWAYS,
        make: |tree| tree.put(CONFIG, "{ \"Ssm\": { \"HealthFrequencyMinutes\": 90 } }"),
    },
    Defect {
        check: "SSMB010",
        fits: ALWAYS,
        make: |tree| tree.put("var/lib/amazon/ssm/registration", "{}"),
    },
    Defect {
        check: "SSMB010",
        fits: ALWAYS,
        make: |tree| tree.put("var/lib/amazon/ssm/Vault/Manifest", "x"),
    },
    Defect {
        check: "SSMB010",
        fits: ALWAYS,
        make: |tree| tree.put("var/lib/amazon/ssm/i-0123/x", "x"),
    },
    Defect {
        check: "SSMB011",
        fits: ALWAYS,
        make: |tree| {
            tree.put(
                "etc/systemd/system/amazon-ssm-agent.service.d/proxy.override",
                "x",
            )
        },
    },
    Defect {
        check: "SSMB012",
        fits: |os| os.package == PackageFormat::Deb,
        make: |tree| tree.put("var/lib/dpkg/updates/0001", "x"),
    },
    Defect {
        check: "SSMB013",
        fits: ALWAYS,
        make: |tree| tree.put("usr/bin/ssm-cli", "another"),
    },
];

fn remove(tree: &MiniTree, path: &str) {
    fs::remove_file(tree.path().join(path)).expect("remove");
}

#[test]
fn audit_finds_each_seeded_defect_on_every_system() {
    each(|os, arch, name| {
        let baked = tree_of(os, arch);
        let (code, out, err) = outcome(&mut bake(baked.path(), os, arch));
        assert_eq!(code, 20, "{name}: {out}{err}");
        for (number, defect) in DEFECTS.iter().enumerate().filter(|(_, defect)| (defect.fits)(os)) {
            let target = baked.copy();
            (defect.make)(&target);
            let (_, out, err) = outcome(&mut ssmbake(&["audit", "--root", target.arg()]));
            let found = out
                .lines()
                .any(|line| !line.starts_with("pass") && line.contains(defect.check));
            assert!(found, "{name}, defect {number}: {out}{err}");
            let others: Vec<&str> = out
                .lines()
                .filter(|line| line.starts_with("FAIL") && !line.contains(defect.check))
                .collect();
            assert_eq!(others, Vec::<&str>::new(), "{name}, defect {number}");
        }
    });
}

#[test]
fn a_failure_at_any_step_leaves_every_system_as_it_was() {
    // All steps together are covered by the systems together: each takes every eleventh, from another first one.
    let offset = std::sync::atomic::AtomicUsize::new(0);
    each(|os, arch, name| {
        let target = tree_of(os, arch);
        let plan =
            must(ssmbake(&["plan", "--output", "json", "--root", target.arg()]).args(wanted(os, arch)));
        let plan: Plan = serde_json::from_slice(&plan.stdout).expect("plan");
        let root = Root::open(target.path()).expect("root");
        let before = tree(target.path(), Times::Count);
        let mut step = offset.fetch_add(1, std::sync::atomic::Ordering::SeqCst) % 11;
        loop {
            let package = verified(&root, &everything().0, &plan);
            let count = Cell::new(0);
            let checkpoint = |_: &_| {
                count.set(count.get() + 1);
                if count.get() > step {
                    Err(io::Error::other("stop"))
                } else {
                    Ok(())
                }
            };
            if change(&root, &plan, Some(&package), &host(), &checkpoint).is_ok() {
                break;
            }
            let changed = diff(&before, &tree(target.path(), Times::Count));
            assert_eq!(changed, Vec::<String>::new(), "{name}, step {step}");
            step += 11;
        }
        assert!(step > 40, "{name}: {step} steps");
    });
}
