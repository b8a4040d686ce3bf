//! Windows trees: hives written by another crate than the one that reads them, and programs that are headers only.

use std::fs;
use std::path::Path;

use regf::{DataType, HiveBuilder};
use tempfile::TempDir;

/// A tree to make.
#[derive(Debug, Clone, Copy)]
pub struct WindowsTree<'a> {
    /// ProductName.
    pub product: &'a str,
    /// CurrentBuildNumber.
    pub build: &'a str,
    /// InstallationType; empty: none, as on Server 2003.
    pub installation: &'a str,
    /// ProductType.
    pub product_type: &'a str,
    /// Machine of cmd.exe's PE header.
    pub machine: u16,
    /// PROCESSOR_ARCHITECTURE; empty: none.
    pub processor: &'a str,
    /// BuildLabEx; empty: none.
    pub lab: &'a str,
    /// PowerShellVersion below keys 1 and 3; empty: none.
    pub powershell: (&'a str, &'a str),
    /// Thumbprints in the ROOT store.
    pub roots: &'a [&'a str],
    /// Further keys beside those that are looked for.
    pub classes: u32,
    /// Further texts of SOFTWARE: key, name, text.
    pub software: &'a [(&'a str, &'a str, &'a str)],
    /// The agent's service: how it starts, and its environment; none: there is no service.
    pub service: Option<(u32, &'a [&'a str])>,
}

impl WindowsTree<'_> {
    /// Server 2019 with a desktop, and no root of AWS.
    pub fn server_2019() -> Self {
        Self {
            product: "Windows Server 2019 Datacenter",
            build: "17763",
            installation: "Server",
            product_type: "ServerNT",
            machine: 0x8664,
            processor: "",
            lab: "",
            powershell: ("2.0", "5.1.17763.1"),
            roots: &[],
            classes: 20,
            software: &[],
            service: None,
        }
    }

    /// Makes it.
    pub fn build(&self) -> TempDir {
        let dir = tempfile::tempdir().expect("directory");
        let config = dir.path().join("Windows/System32/config");
        fs::create_dir_all(&config).expect("directory");
        fs::write(dir.path().join("Windows/System32/cmd.exe"), program(self.machine)).expect("program");
        self.software(&config.join("SOFTWARE"));
        self.system(&config.join("SYSTEM"));
        dir
    }

    fn software(&self, path: &Path) {
        let mut hive = HiveBuilder::new().expect("hive");
        let mut put = |key: &str, name: &str, value: &str| {
            hive.create_key(key).expect("key");
            if !value.is_empty() {
                hive.add_value_string(key, Some(name), value).expect("value");
            }
        };
        let current = r"Microsoft\Windows NT\CurrentVersion";
        put(current, "ProductName", self.product);
        put(current, "CurrentBuildNumber", self.build);
        put(current, "InstallationType", self.installation);
        put(current, "BuildLabEx", self.lab);
        for number in 0..self.classes {
            put(&format!(r"Microsoft\.x{number}"), "", "");
        }
        for (key, version) in [("1", self.powershell.0), ("3", self.powershell.1)] {
            if !version.is_empty() {
                put(
                    &format!(r"Microsoft\PowerShell\{key}\PowerShellEngine"),
                    "PowerShellVersion",
                    version,
                );
            }
        }
        for thumbprint in self.roots {
            put(
                &format!(r"Microsoft\SystemCertificates\ROOT\Certificates\{thumbprint}"),
                "",
                "",
            );
        }
        for (key, name, text) in self.software {
            put(key, name, text);
        }
        hive.add_value_dword(current, Some("UBR"), 1158).expect("value");
        hive.write_to_file(path).expect("hive");
    }

    fn system(&self, path: &Path) {
        let mut hive = HiveBuilder::new().expect("hive");
        hive.create_key("Select").expect("key");
        hive.add_value_dword("Select", Some("Current"), 2).expect("value");
        let options = r"ControlSet002\Control\ProductOptions";
        hive.create_key(options).expect("key");
        hive.add_value_string(options, Some("ProductType"), self.product_type)
            .expect("value");
        let environment = r"ControlSet002\Control\Session Manager\Environment";
        hive.create_key(environment).expect("key");
        if !self.processor.is_empty() {
            hive.add_value_string(environment, Some("PROCESSOR_ARCHITECTURE"), self.processor)
                .expect("value");
        }
        if let Some((start, environment)) = self.service {
            let service = r"ControlSet002\Services\AmazonSSMAgent";
            hive.create_key(service).expect("key");
            hive.add_value_dword(service, Some("Start"), start)
                .expect("value");
            let lines: String = environment.iter().map(|line| format!("{line}\0")).collect();
            let bytes: Vec<u8> = format!("{lines}\0")
                .encode_utf16()
                .flat_map(u16::to_le_bytes)
                .collect();
            hive.add_value_with_type(service, Some("Environment"), &bytes, DataType::MultiString)
                .expect("value");
        }
        hive.write_to_file(path).expect("hive");
    }
}

/// A PE file as far as its machine is told.
fn program(machine: u16) -> Vec<u8> {
    let mut bytes = vec![0; 256];
    bytes[..2].copy_from_slice(b"MZ");
    bytes[0x3c] = 0x80;
    bytes[0x80..0x84].copy_from_slice(b"PE\0\0");
    bytes[0x84..0x86].copy_from_slice(&machine.to_le_bytes());
    bytes
}
