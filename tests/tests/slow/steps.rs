//! A failure at every single step of the main job leaves the tree as it was.

use std::cell::Cell;
use std::io;

use ssmbake_installers::acquire::{
    self, FetchRequest, KeyRing, Progress, Transport, TransportOptions, Verified,
};
use ssmbake_installers::apply::{Host, change};
use ssmbake_installers::interrupt::Interrupt;
use ssmbake_installers::plan::{Plan, Step, VersionSpec};
use ssmbake_installers::root::Root;
use ssmbake_installers::txn::unnamed_file;
use ssmbake_manifests::catalog;
use ssmbake_tests::digest::{Times, diff, tree};
use ssmbake_tests::mirror::Mirror;
use ssmbake_tests::tree::MiniTree;
use ssmbake_tests::world::{V1, mirror, world};
use ssmbake_tests::{must, ssmbake};

struct Silent;

impl Progress for Silent {
    fn started(&self, _: &str, _: Option<u64>) {}
    fn advanced(&self, _: u64) {}
    fn retrying(&self, _: u32, _: &str) {}
    fn finished(&self) {}
}

pub(crate) fn host() -> Host {
    Host {
        epoch: None,
        now: 1_700_000_000,
        temp_dir: std::env::temp_dir(),
    }
}

pub(crate) fn verified(root: &Root, mirror: &Mirror, plan: &Plan) -> Verified {
    let options = TransportOptions {
        interrupt: Interrupt::new(),
        secrets: Vec::new(),
        roots_der: Vec::new(),
        proxy: Default::default(),
        timeout: std::time::Duration::from_secs(30),
        retries: 0,
    };
    let transport = Transport::new(&options).expect("transport");
    let mut ring = KeyRing::embedded(catalog()).expect("ring");
    ring.add_certificates(&world().signer.certificate())
        .expect("certificate");
    let Some(Step::InstallPackage {
        version: VersionSpec::Exact(version),
        folder,
        format,
        arch,
        ..
    }) = plan.steps.first()
    else {
        panic!("{plan:?}");
    };
    let request = FetchRequest {
        base_url: mirror.url.clone(),
        version: *version,
        folder: folder.clone(),
        format: *format,
        arch: *arch,
        pin: plan
            .request
            .sha256
            .as_deref()
            .and_then(ssmbake_manifests::hex::digest),
        cache: None,
        temp_dir: std::env::temp_dir(),
    };
    acquire::fetch(
        &transport,
        &ring,
        catalog().agent(),
        &request,
        &|| unnamed_file(root),
        &Silent,
    )
    .expect("verified")
}

#[test]
fn a_failure_at_any_step_leaves_the_tree_as_it_was() {
    let (target, mirror) = (MiniTree::debian(), mirror());
    target.put("etc/amazon/ssm/amazon-ssm-agent.json", "{ \"Mds\": {} }\n");
    let plan = must(
        ssmbake(&[
            "plan",
            "--root",
            target.arg(),
            "--mirror",
            &mirror.url,
            "--version",
            V1,
            "--output",
            "json",
        ])
        .args([
            "--set",
            "Agent.SelfUpdate=true",
            "--proxy",
            "http://proxy:1",
            "--roots",
            "legacy",
        ]),
    );
    let plan: Plan = serde_json::from_slice(&plan.stdout).expect("plan");
    let root = Root::open(target.path()).expect("root");
    let before = tree(target.path(), Times::Count);
    let mut step = 0;
    loop {
        let package = verified(&root, &mirror, &plan);
        let count = Cell::new(0);
        let checkpoint = |_: &_| {
            count.set(count.get() + 1);
            if count.get() > step {
                Err(io::Error::other("stop"))
            } else {
                Ok(())
            }
        };
        let result = change(&root, &plan, Some(&package), &host(), &checkpoint);
        if result.is_ok() {
            break;
        }
        assert_eq!(
            diff(&before, &tree(target.path(), Times::Count)),
            Vec::<String>::new(),
            "step {step}"
        );
        step += 1;
    }
    // Each of about forty paths is staged, then swapped.
    assert!(step > 60, "{step} steps");
    assert_ne!(before, tree(target.path(), Times::Count));
}
