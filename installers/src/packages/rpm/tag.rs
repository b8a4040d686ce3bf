//! Numbers of header tags (rpm's include/rpm/rpmtag.h), as far as the engine reads or writes them.

/// Entry that marks the immutable region of a signature header.
pub const HEADER_SIGNATURES: u32 = 62;
/// Entry that marks the immutable region of a main header.
pub const HEADER_IMMUTABLE: u32 = 63;

/// Size of header and payload.
pub const SIG_SIZE: u32 = 257;
/// MD5 of header and payload.
pub const SIG_MD5: u32 = 261;
/// OpenPGP signature (DSA or EdDSA) over the main header.
pub const DSA_HEADER: u32 = 267;
/// OpenPGP signature (RSA) over the main header.
pub const RSA_HEADER: u32 = 268;
/// SHA-1 of the main header, hex.
pub const SHA1_HEADER: u32 = 269;
/// SHA-256 of the main header, hex.
pub const SHA256_HEADER: u32 = 273;

/// Name.
pub const NAME: u32 = 1000;
/// Version.
pub const VERSION: u32 = 1001;
/// Release.
pub const RELEASE: u32 = 1002;
/// Epoch.
pub const EPOCH: u32 = 1003;
/// Seconds since the epoch.
pub const INSTALL_TIME: u32 = 1008;
/// Architecture, by rpm's names.
pub const ARCH: u32 = 1022;
/// Bytes of each file.
pub const FILE_SIZES: u32 = 1028;
/// 0: as installed.
pub const FILE_STATES: u32 = 1029;
/// `st_mode` of each file.
pub const FILE_MODES: u32 = 1030;
/// Seconds since the epoch.
pub const FILE_MTIMES: u32 = 1034;
/// Hex; empty for what is no regular file.
pub const FILE_DIGESTS: u32 = 1035;
/// Text of symbolic links.
pub const FILE_LINK_TOS: u32 = 1036;
/// See `file_flag`.
pub const FILE_FLAGS: u32 = 1037;
/// Names of owners.
pub const FILE_USERS: u32 = 1039;
/// Names of groups.
pub const FILE_GROUPS: u32 = 1040;
/// Absent in source packages.
pub const SOURCE_RPM: u32 = 1044;
/// Bytes of the unpacked payload.
pub const ARCHIVE_SIZE: u32 = 1046;
/// What it provides.
pub const PROVIDE_NAME: u32 = 1047;
/// See `sense`.
pub const REQUIRE_FLAGS: u32 = 1048;
/// What it needs.
pub const REQUIRE_NAME: u32 = 1049;
/// Of what it needs.
pub const REQUIRE_VERSION: u32 = 1050;
/// See `sense`.
pub const CONFLICT_FLAGS: u32 = 1053;
/// What it cannot be beside.
pub const CONFLICT_NAME: u32 = 1054;
/// Of that.
pub const CONFLICT_VERSION: u32 = 1055;
/// Packages whose changes run its triggers.
pub const TRIGGER_NAME: u32 = 1066;
/// What it replaces.
pub const OBSOLETE_NAME: u32 = 1090;
/// Equal for hard links.
pub const FILE_INODES: u32 = 1096;
/// See `sense`.
pub const PROVIDE_FLAGS: u32 = 1112;
/// Of what it provides.
pub const PROVIDE_VERSION: u32 = 1113;
/// See `sense`.
pub const OBSOLETE_FLAGS: u32 = 1114;
/// Of what it replaces.
pub const OBSOLETE_VERSION: u32 = 1115;
/// Index into the directories.
pub const DIR_INDEXES: u32 = 1116;
/// Last components.
pub const BASE_NAMES: u32 = 1117;
/// Directories, with a final slash.
pub const DIR_NAMES: u32 = 1118;
/// `cpio`.
pub const PAYLOAD_FORMAT: u32 = 1124;
/// `gzip`, `xz`, `zstd`, `bzip2`, `lzma`.
pub const PAYLOAD_COMPRESSOR: u32 = 1125;
/// Which word sizes the machine runs.
pub const INSTALL_COLOR: u32 = 1127;
/// Transaction: the time it began.
pub const INSTALL_TID: u32 = 1128;
/// Instead of the 32-bit ones.
pub const LONG_FILE_SIZES: u32 = 5008;
/// Capabilities, as text.
pub const FILE_CAPS: u32 = 5010;
/// OpenPGP's number; absent: MD5.
pub const FILE_DIGEST_ALGO: u32 = 5011;
/// Of the packed payload, hex.
pub const PAYLOAD_DIGEST: u32 = 5092;
/// OpenPGP's number.
pub const PAYLOAD_DIGEST_ALGO: u32 = 5093;

/// Tags of the signature header that have another number, or the same, in an installed header; others stay behind.
pub const FROM_SIGNATURE: [(u32, u32); 14] = [
    (1000, SIG_SIZE),
    (1002, 259),
    (1004, SIG_MD5),
    (1005, 262),
    (1007, ARCHIVE_SIZE),
    (DSA_HEADER, DSA_HEADER),
    (RSA_HEADER, RSA_HEADER),
    (SHA1_HEADER, SHA1_HEADER),
    (270, 270),
    (271, 271),
    (SHA256_HEADER, SHA256_HEADER),
    (274, 274),
    (275, 275),
    (278, 278),
];

/// File flags.
pub mod file_flag {
    /// `%config`.
    pub const CONFIG: u32 = 1;
    /// `%config(noreplace)`.
    pub const NO_REPLACE: u32 = 1 << 4;
    /// `%ghost`: owned and not shipped.
    pub const GHOST: u32 = 1 << 6;
}

/// Dependency flags.
pub mod sense {
    /// Versions below.
    pub const LESS: u32 = 1 << 1;
    /// Versions above.
    pub const GREATER: u32 = 1 << 2;
    /// This version.
    pub const EQUAL: u32 = 1 << 3;
    /// Any of the three.
    pub const ANY: u32 = LESS | GREATER | EQUAL;
    /// A feature of rpm itself.
    pub const RPMLIB: u32 = 1 << 24;
    /// The package's own `config(NAME)`.
    pub const CONFIG: u32 = 1 << 28;
    /// Needed only while scripts of an installation run, or of rpm itself.
    pub const INSTALL_ONLY: u32 = 1 << 9 | 1 << 10 | RPMLIB | 1 << 26 | 1 << 7 | 1 << 5;
    /// Needed while scripts of a removal run.
    pub const ERASE_ONLY: u32 = 1 << 11 | 1 << 12 | 1 << 20 | 1 << 21;
    /// Orders removals, too.
    pub const META: u32 = 1 << 29;
}
