//! A signed stand-in package on a loopback HTTPS server, for the demo and the benchmark.
//! `ssmbake-test-mirror DIR VERSION BYTES COMPRESSION` writes ca.pem, keyring.asc, keyring.gpg and the package into DIR,
//! prints the URL and serves until its standard input ends.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a helper of the scripts"
)]

use std::io::Read;
use std::path::PathBuf;

use ssmbake_tests::mirror::Mirror;
use ssmbake_tests::package::{AgentPackage, Signer};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, dir, version, size, compression] = arguments.as_slice() else {
        panic!("usage: ssmbake-test-mirror DIR VERSION BYTES COMPRESSION");
    };
    let dir = PathBuf::from(dir);
    let binary_size = size.parse().expect("a number of bytes");
    let package = AgentPackage {
        binary_size,
        compression: compression.clone(),
        ..AgentPackage::new(version)
    };
    let deb = package.build(&dir);
    let signer = Signer::new("rsa3072", None, "0");
    std::fs::write(dir.join("keyring.asc"), signer.certificate()).expect("keyring");
    let mirror = Mirror::https();
    mirror.publish(version, "debian_amd64", &deb, &signer.sign(&deb));
    std::fs::write(dir.join("ca.pem"), mirror.ca_pem.as_ref().expect("CA")).expect("CA");
    println!("{}", mirror.url);
    std::io::stdin().read_to_end(&mut Vec::new()).expect("stdin");
}
