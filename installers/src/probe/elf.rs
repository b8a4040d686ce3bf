//! The architecture of a userland, from the headers of its programs.

use ssmbake_manifests::Arch;

/// Enough for `e_flags` of a 32-bit header.
pub(super) const HEADER: usize = 64;

/// The architecture an ELF header names; none for anything that is no ELF file or names one we have no word for.
pub(super) fn architecture(header: &[u8]) -> Option<Arch> {
    if header.len() < 0x28 || &header[..4] != b"\x7fELF" {
        return None;
    }
    let is_64 = header[4] == 2;
    let is_little = header[5] == 1;
    let pair = [header[18], header[19]];
    let machine = if is_little {
        u16::from_le_bytes(pair)
    } else {
        u16::from_be_bytes(pair)
    };
    let flag_bytes = [header[0x24], header[0x25], header[0x26], header[0x27]];
    let flags = if is_little {
        u32::from_le_bytes(flag_bytes)
    } else {
        u32::from_be_bytes(flag_bytes)
    };
    let hard_float = flags & 0x400 != 0;
    Some(match (machine, is_64, is_little) {
        (3, false, true) => Arch::I386,
        (62, true, true) => Arch::Amd64,
        (62, false, true) => Arch::X32,
        (40, false, true) if hard_float => Arch::Armhf,
        (40, false, true) => Arch::Armel,
        (183, true, true) => Arch::Arm64,
        (21, true, true) => Arch::Ppc64el,
        (21, true, false) => Arch::Ppc64,
        (20, false, false) => Arch::Powerpc,
        (22, true, false) => Arch::S390x,
        (243, true, true) => Arch::Riscv64,
        (258, true, true) => Arch::Loong64,
        (8, false, false) => Arch::Mips,
        (8, false, true) => Arch::Mipsel,
        (8, true, false) => Arch::Mips64,
        (8, true, true) => Arch::Mips64el,
        (43, true, false) => Arch::Sparc64,
        (50, true, true) => Arch::Ia64,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(class: u8, endian: u8, machine: u16, flags: u32) -> Vec<u8> {
        let mut bytes = vec![0; HEADER];
        bytes[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', class, endian]);
        let little = endian == 1;
        bytes[18..20].copy_from_slice(&if little {
            machine.to_le_bytes()
        } else {
            machine.to_be_bytes()
        });
        bytes[0x24..0x28].copy_from_slice(&if little {
            flags.to_le_bytes()
        } else {
            flags.to_be_bytes()
        });
        bytes
    }

    #[test]
    fn tells_architectures_apart() {
        assert_eq!(architecture(&header(2, 1, 62, 0)), Some(Arch::Amd64));
        assert_eq!(architecture(&header(1, 1, 62, 0)), Some(Arch::X32));
        assert_eq!(architecture(&header(1, 1, 3, 0)), Some(Arch::I386));
        assert_eq!(architecture(&header(1, 1, 40, 0x0500_0400)), Some(Arch::Armhf));
        assert_eq!(architecture(&header(1, 1, 40, 0x0500_0200)), Some(Arch::Armel));
        assert_eq!(architecture(&header(2, 1, 183, 0)), Some(Arch::Arm64));
        assert_eq!(architecture(&header(2, 2, 22, 0)), Some(Arch::S390x));
        assert_eq!(architecture(b"#!/bin/sh"), None);
        assert_eq!(architecture(&header(2, 1, 62, 0)[..20]), None);
    }
}
